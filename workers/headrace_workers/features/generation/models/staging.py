"""A model folder appears whole or not at all: it is made beside its place and then renamed."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace_schemas.errors import HeadraceError, Unavailable
from headrace_workers.core.private_files import private_folder
from headrace_workers.features.generation.models.registry import model_dir

Progress = Callable[[str, float], None]  # what is being done, and how much of the whole is done (0 to 1)


class ChecksumMismatch(HeadraceError):
    """The weights that arrived differ from the requested ones."""


@contextmanager
def staged_model(home: Path, alias: str) -> Iterator[Path]:
    """Yield a fresh folder that takes the place of the alias's folder when the block ends well, and vanishes
    otherwise.
    """
    target = model_dir(home, alias)
    try:
        private_folder(target.parent)
        # The leading dot hides it from the registry; the same folder means the same file system: renaming is atomic.
        with tempfile.TemporaryDirectory(prefix=f".{alias}-", dir=target.parent, ignore_cleanup_errors=True) as scratch:
            draft = Path(scratch) / "new"
            private_folder(draft)
            yield draft
            if target.exists():
                target.rename(Path(scratch) / "old")
            draft.rename(target)
    except OSError as error:
        raise Unavailable(
            f"the model {alias} cannot be made in {target.parent}: {error.strerror or error}; HEADRACE_HOME must be a "
            "folder that this user can write, with room in it"
        ) from error


def sha256_of(*paths: Path) -> str:
    """Return the SHA-256 of the file in hex; of several files, of their bytes one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def folder_size(folder: Path) -> int:
    """Return the bytes of all files in the folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def copy_present(names: tuple[str, ...], source: Path, folder: Path) -> None:
    """Copy the named files that the source folder has."""
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
