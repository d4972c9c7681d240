import os
import socket
import stat
from pathlib import Path

import pytest

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.migrate import migrate
from headrace_workers.core.private_files import keep_private, opened_privately, private_folder
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.files.object_store import Store
from headrace_workers.models.model_address import ModelAddress, enter_model
from headrace_workers.models.registry import staged_model
from headrace_workers.models.verifiers.measured import note_probe
from headrace_workers.runtime.embedded.home import HomeLock


@pytest.fixture(autouse=True)
def _open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    """What may be done with it, and by whom."""
    return stat.S_IMODE(path.lstat().st_mode)


def test_a_folder_is_made_private_with_those_above_it_that_are_missing(tmp_path: Path):
    (there := tmp_path / "there").mkdir(mode=0o755)
    private_folder(there / "a" / "b")
    private_folder(there / "a" / "b")
    assert [mode(path) for path in (there, there / "a", there / "a" / "b")] == [0o755, 0o700, 0o700]


def test_a_home_that_a_command_makes_is_private_with_its_files(tmp_path: Path):
    homes = [tmp_path / "catalogue", tmp_path / "measured"]
    enter_model(homes[0], ModelAddress("openai", "m", "http://localhost:1/v1"))
    note_probe(homes[1], "m", None)
    assert [mode(home) for home in homes] == [0o700, 0o700]
    files = {path.name: mode(path) for home in homes for path in home.iterdir()}
    assert files == dict.fromkeys(("models.toml", ".models.toml.lock", "verifiers.json"), 0o600)


def test_a_home_that_is_there_is_closed_with_all_that_is_in_it(tmp_path: Path):
    home, outside = tmp_path / "home", tmp_path / "outside"
    (home / "models" / "m").mkdir(parents=True, mode=0o755)
    for path in (home, home / "models", home / "models" / "m"):
        path.chmod(0o755)
    outside.write_text("x")
    outside.chmod(0o644)
    (home / "link").symlink_to(outside)
    for name in ("ledger.db", "ledger.db-wal", "ledger.db-shm", "models/m/model.bin"):
        (home / name).write_text("x")
        (home / name).chmod(0o644)
    (home / "run").write_text("x")
    (home / "run").chmod(0o755)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(home / "redis.sock"))
    keep_private(home)
    listening.close()
    closed = {str(path.relative_to(home)): mode(path) for path in home.rglob("*") if not path.is_symlink()}
    assert mode(home) == 0o700
    assert {name: number & 0o077 for name, number in closed.items()} == dict.fromkeys(closed, 0)
    assert (closed["run"], closed["ledger.db"], closed["models"], mode(outside)) == (0o700, 0o600, 0o700, 0o644)


def test_what_is_added_to_a_closed_home_is_closed_at_the_next_start(tmp_path: Path):
    keep_private(tmp_path / "home")
    (tmp_path / "home" / "ledger.db").write_text("x")
    (tmp_path / "home" / "ledger.db").chmod(0o644)
    HomeLock(tmp_path / "home").acquire().release()
    assert mode(tmp_path / "home" / "ledger.db") == 0o600
    assert mode(tmp_path / "home" / "up.lock") == 0o600


def test_a_file_is_made_private_whatever_the_umask(tmp_path: Path):
    with open(tmp_path / "log", "ab", opener=opened_privately) as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600


@pytest.mark.parametrize("there", [False, True])
def test_a_ledger_in_a_file_is_its_owner_s_alone(tmp_path: Path, there: bool):
    """With what SQLite keeps beside it; one that is there already, too."""
    file = tmp_path / "ledger.db"
    ledger = Ledger.at(f"sqlite:///{file}")
    if there:
        file.touch()
        file.chmod(0o644)
    migrate(ledger.engine)
    ledger.of(Quotas).put("a", 1, "ever")
    made = sorted(tmp_path.iterdir())
    assert [path.name for path in made] == ["ledger.db", "ledger.db-shm", "ledger.db-wal"]
    assert [mode(path) for path in made] == [0o600] * 3
    ledger.close()


def test_files_and_models_are_made_private(tmp_path: Path):
    Store.at(str(tmp_path / "files")).write("a/b", [b"x"])
    with staged_model(tmp_path / "home", "m") as folder:
        (folder / "x").touch()
    folders = [tmp_path / "files" / "a", tmp_path / "home", tmp_path / "home" / "models" / "m"]
    assert [mode(path) for path in (*folders, tmp_path / "files" / "a" / "b")] == [0o700, 0o700, 0o700, 0o600]
