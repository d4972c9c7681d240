from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.catalogue import read_catalogue
from headrace_workers.models.model_address import ModelAddress, enter_model, parse_address
from headrace_workers.testing import make_echo_model


@pytest.mark.parametrize(
    ("text", "address", "alias"),
    [
        ("http://localhost:11434/v1#qwen3", ModelAddress("openai", "qwen3", "http://localhost:11434/v1"), "qwen3"),
        ("http://localhost:11434/v1/#qwen3:8b", ModelAddress("openai", "qwen3:8b", "http://localhost:11434/v1"),
         "qwen3-8b"),
        ("https://api.groq.com/openai/v1#meta/Llama-4", ModelAddress("openai", "meta/Llama-4",
                                                                     "https://api.groq.com/openai/v1"), "llama-4"),
        ("openai:gpt-5-mini", ModelAddress("openai", "gpt-5-mini"), "gpt-5-mini"),
        ("anthropic:claude-haiku", ModelAddress("anthropic", "claude-haiku"), "claude-haiku"),
    ],
)  # fmt: skip
def test_an_address_names_an_engine_a_model_and_an_alias(text: str, address: ModelAddress, alias: str) -> None:
    assert parse_address(text) == address
    assert address.alias == alias


@pytest.mark.parametrize(
    "text", ["smollm2-135m-instruct", "./model.gguf", "http://localhost/v1", "openai:", "other:x", "http://h/v1#"]
)
def test_other_words_are_no_address(text: str) -> None:
    assert parse_address(text) is None


@pytest.mark.parametrize(
    "text",
    ["http://localhost:11434/v1#qwen3", "openai:gpt-5-mini", "anthropic:claude", "https://8.8.8.8/v1#m",
     "https://api.groq.com/openai/v1#m"],
)  # fmt: skip
def test_an_entry_is_written_once_and_reads_back(tmp_path: Path, text: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    path = home / "models.toml"
    path.write_text(
        '# by hand\n[models.first]\nengine = "openai"\nmodel = "f"\ncontext_length = 9\nendpoint = "http://vllm/v1"\n'
    )
    address = parse_address(text)
    assert address is not None
    assert enter_model(home, address) is not None
    written = path.read_text()
    assert written.startswith("# by hand\n")
    found = read_catalogue(home).models
    assert set(found) == {"first", address.alias}
    assert found[address.alias].model == address.model
    assert found[address.alias].endpoint == (address.endpoint or found[address.alias].endpoint)
    assert enter_model(home, address) is None
    assert path.read_text() == written


def test_an_entry_for_a_provider_names_the_place_of_its_key(tmp_path: Path) -> None:
    enter_model(tmp_path, ModelAddress("openai", "gpt-5-mini"))
    assert str(read_catalogue(tmp_path).models["gpt-5-mini"].api_key) == "env:OPENAI_API_KEY"


def test_an_alias_never_changes_its_meaning(tmp_path: Path) -> None:
    make_echo_model(tmp_path)
    with pytest.raises(ConfigurationError, match="echo is a model of this machine"):
        enter_model(tmp_path, ModelAddress("openai", "echo", "http://localhost:1/v1"))
    enter_model(tmp_path, ModelAddress("openai", "m", "http://localhost:1/v1"))
    with pytest.raises(ConfigurationError, match="has a model m already, m at http://localhost:1/v1"):
        enter_model(tmp_path, ModelAddress("openai", "m", "http://localhost:2/v1"))


def test_a_broken_catalogue_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text("[models.")
    with pytest.raises(ConfigurationError, match="is not TOML"):
        enter_model(tmp_path, ModelAddress("openai", "m", "http://localhost:1/v1"))
    assert (tmp_path / "models.toml").read_text() == "[models."


def test_entries_that_are_written_at_once_are_all_there(tmp_path: Path) -> None:
    addresses = [ModelAddress("openai", f"m{number}", price=(0.5, 1.0)) for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda address: enter_model(tmp_path, address), addresses))
    catalogue = read_catalogue(tmp_path)
    assert catalogue.models.keys() == catalogue.prices.keys() == {f"m{number}" for number in range(20)}
