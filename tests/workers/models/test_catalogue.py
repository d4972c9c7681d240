"""The catalogue of a home: what it may say, and what it says where it is wrong."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.models.catalogue import (
    CATALOGUE_FILE,
    OWN,
    CatalogueModel,
    SecretReference,
    is_near,
    read_catalogue,
)

_LOCAL = 'engine = "openai"\nmodel = "m"\nendpoint = "http://localhost:11434/v1"\ncontext_length = 4096\n'


def catalogue(home: Path, text: str) -> None:
    (home / CATALOGUE_FILE).write_text(text)


def test_a_home_without_a_catalogue_has_an_empty_one(tmp_path: Path) -> None:
    found = read_catalogue(tmp_path)
    assert (dict(found.models), dict(found.chains)) == ({}, {})


def test_an_entry_has_the_usual_endpoint_and_provider_of_its_engine(tmp_path: Path) -> None:
    """OpenAI and Anthropic need no address; a server on this machine is your own."""
    catalogue(
        tmp_path,
        '[models.a]\nengine = "openai"\nmodel = "gpt-5-mini"\ncontext_length = 400000\napi_key = "env:K"\n'
        '[models.b]\nengine = "anthropic"\nmodel = "claude"\ncontext_length = 200000\n'
        f"[models.c]\n{_LOCAL}",
    )
    found = read_catalogue(tmp_path).models
    assert {alias: (model.endpoint, model.provider) for alias, model in found.items()} == {
        "a": ("https://api.openai.com/v1", "openai"),
        "b": ("https://api.anthropic.com", "anthropic"),
        "c": ("http://localhost:11434/v1", OWN),
    }
    assert found["c"].remote.is_own
    assert not found["a"].remote.is_own
    assert found["a"].open_calls == 64


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    """Some editors begin a file with one, which nobody sees."""
    catalogue(tmp_path, f"\ufeff[models.near]\n{_LOCAL}")
    assert list(read_catalogue(tmp_path).models) == ["near"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_named(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A pipe would never end; nobody waits for it."""
    make(tmp_path / CATALOGUE_FILE)
    with pytest.raises(ConfigurationError, match=r"models\.toml is not a file: replace it by one, or remove it"):
        read_catalogue(tmp_path)


def test_a_chain_names_models_in_order(tmp_path: Path) -> None:
    catalogue(tmp_path, f'[models.c]\n{_LOCAL}[chains.careful]\nmodels = ["smollm2", "c"]\n')
    assert read_catalogue(tmp_path).chains["careful"].models == ("smollm2", "c")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[models.a", "is not TOML"),
        (f"[models.A]\n{_LOCAL}", "models"),
        (f"[models.a]\n{_LOCAL}surprise = 1\n", "surprise"),
        (f"[models.a]\n{_LOCAL}api_key = 'sk-live-123'\n", "must say where the key is"),
        (f"[models.a]\n{_LOCAL}open_calls = 0\n", "open_calls"),
        (f"[models.a]\n{_LOCAL}idle = 0\n", "idle"),
        (f"[models.a]\n{_LOCAL}requests_per_minute = 0\n", "requests_per_minute"),
        ('[models.a]\nengine = "openai"\nmodel = "m"\n', "context_length"),
        ('[models.a]\nengine = "ctranslate2"\nmodel = "m"\ncontext_length = 10\n', "answers on no other machine"),
        ('[models.a]\nengine = "openai"\nmodel = "m"\ncontext_length = 9\nendpoint = "https://x.example.com/v1"\n',
         "provider is missing: say who runs"),
        (f"[models.a]\n{_LOCAL}".replace("localhost:11434/v1", "me:pw@localhost/v1"), "no user and no password"),
        (f"[models.a]\n{_LOCAL}".replace("/v1", "/v1?key=1"), "neither a query nor a fragment"),
        (f"[models.a]\n{_LOCAL}".replace("http://", "ftp://"), "must be a URL"),
        (f"[models.a]\n{_LOCAL}provider = 'x'\napi_key = 'env:K'\n".replace("localhost:11434", "x.example.com"),
         "would show api_key to the network"),
        (f'[models.a]\n{_LOCAL}[chains.a]\nmodels = ["b"]\n', "names a model and a chain"),
        ('[chains.a]\nmodels = ["b"]\n[chains.b]\nmodels = ["c"]\n', "holds the chain b"),
        ('[chains.a]\nmodels = ["b", "b"]\n', "names a model twice"),
        ("[chains.a]\nmodels = []\n", "models"),
    ],
)  # fmt: skip
def test_a_wrong_catalogue_names_its_file_and_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    catalogue(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        read_catalogue(tmp_path)
    assert words in str(caught.value)
    assert str(tmp_path / CATALOGUE_FILE) in str(caught.value)
    assert "sk-live" not in str(caught.value)


def test_a_catalogue_of_megabytes_is_refused(tmp_path: Path) -> None:
    catalogue(tmp_path, "#" * 1_000_001)
    with pytest.raises(ConfigurationError, match="more than 1,000,000 bytes"):
        read_catalogue(tmp_path)


@pytest.mark.parametrize(
    ("endpoint", "near"),
    [
        ("http://localhost:1/v1", True), ("http://127.0.0.1/v1", True), ("http://10.1.2.3/v1", True),
        ("http://[::1]:9/v1", True), ("http://vllm:8000/v1", True), ("http://gpu.internal/v1", True),
        ("http://8.8.8.8/v1", False), ("https://api.example.com", False),
    ],
)  # fmt: skip
def test_an_endpoint_is_near_where_its_name_shows_it(endpoint: str, near: bool) -> None:
    assert is_near(endpoint) is near


DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_describes_every_field() -> None:
    page = (DOCS / "reference" / "models-toml.md").read_text()
    described = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    assert described - {"models"} == set(CatalogueModel.model_fields)
    for name, field in CatalogueModel.model_fields.items():
        if type(field.default) in (int, float):
            assert re.search(rf"^\| `{name}` \| {field.default:g} \|", page, re.MULTILINE), name


@pytest.mark.parametrize("page", ["reference/models-toml.md", "how-to/use-models-of-others.md"])
def test_the_examples_on_the_pages_are_catalogues(tmp_path: Path, page: str) -> None:
    blocks = re.findall(r"^( *)```toml\n(.*?)^\1```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for _, block in blocks:
        catalogue(tmp_path, dedent(block))
        assert read_catalogue(tmp_path).models


def test_a_key_is_read_where_it_lies_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "one")
    by_name = SecretReference.parse("env:A_KEY")
    assert by_name.read() == "one"
    monkeypatch.setenv("A_KEY", "two")
    assert by_name.read() == "two"
    file = tmp_path / "key"
    file.write_text("three\n")
    by_file = SecretReference.parse(f"file:{file}")
    assert by_file.read() == "three"
    file.write_text("four\n")
    assert by_file.read() == "four"


@pytest.mark.parametrize(
    "text", ["sk-live-0123456789", "", "env:", "env:NOT A NAME", "file:", "file:relative/path", "vault:x", "ENV:KEY"]
)
def test_a_text_that_is_no_reference_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="must say where the key is") as caught:
        SecretReference.parse(text)
    assert "sk-live" not in str(caught.value)


def test_a_missing_key_names_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which variable or file should hold the key; an empty one counts as missing."""
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="NO_KEY is not set"):
        SecretReference.parse("env:NO_KEY").read()
    file = tmp_path / "key"
    for content in (None, b"", b" \n", b"\xff\xfe"):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigurationError, match="cannot be read, or is empty"):
            SecretReference.parse(f"file:{file}").read()


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel", "tab\tinside"])
def test_a_key_that_no_header_can_carry_is_refused(tmp_path: Path, key: str) -> None:
    """A key with a line end would be a header of its own; the error does not show it."""
    file = tmp_path / "key"
    file.write_text(key)
    with pytest.raises(ConfigurationError, match="no HTTP header can carry") as caught:
        SecretReference.parse(f"file:{file}").read()
    assert key not in str(caught.value)


def test_a_reference_shows_the_place_and_never_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "very-secret")
    reference = SecretReference.parse("env:A_KEY")
    assert str(reference) == "env:A_KEY"
    assert "very-secret" not in f"{reference!r}{reference}"
