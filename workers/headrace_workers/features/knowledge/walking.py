"""Resolution of folders, files and globs to files. A folder is walked as it is read, not beforehand."""

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from headrace_workers.features.knowledge.documents import DocumentRefused

Told = Callable[[Path, str], None]  # a path that was passed over, and why


@dataclass(frozen=True, slots=True)
class Found:
    """A file, and the name of its document: the folder's name and the path within it, `guide/install.md`."""

    path: Path
    name: str


def find(paths: Iterable[str], passed_over: Told = lambda path, why: None) -> Iterator[Found]:
    """Return the files, in the same order each time. Raise DocumentRefused for a path that names nothing.

    Folders' hidden entries (names with a leading dot) are skipped, and so are links that lead out of the folder or to
    other folders; `passed_over` is called with links and with unreadable folders. A file that is named itself is always
    taken.
    """
    for named in paths:
        for path in _named(named):
            if path.is_dir():
                root = path.resolve()
                yield from _walk(path, root, PurePath(root.name), passed_over)
            else:
                yield Found(path, _name(PurePath(path.name)))


def _named(named: str) -> Iterator[Path]:
    path = Path(named)
    if path.exists():
        yield path
        return
    matches = map(Path, sorted(glob.iglob(named, recursive=True)) if glob.has_magic(named) else [])
    # A shell would have named folders, too, and they are walked; `**` names a folder and what is in it.
    found = [path for path in matches if "**" not in named or not path.is_dir()]
    if not found:
        raise DocumentRefused(f"{named}: there is no such file or folder, and no file that it stands for")
    yield from found


def _walk(folder: Path, root: Path, name: PurePath, passed_over: Told) -> Iterator[Found]:
    try:
        with os.scandir(folder) as entries:
            here = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        passed_over(folder, f"cannot be read: {error.strerror or error}")
        return
    for entry in here:
        path = folder / entry.name
        if entry.name.startswith("."):
            continue
        if entry.is_symlink() and (why := _led_astray(path, root)):
            passed_over(path, why)
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(path, root, name / entry.name, passed_over)
        elif entry.is_file():
            yield Found(path, _name(name / entry.name))


def _led_astray(link: Path, root: Path) -> str:
    """Why the link is not followed; nothing where it is."""
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return "is a link to nothing"
    if not target.is_relative_to(root):
        return "is a link that leaves the folder"
    if target.is_dir():
        return "is a link to a folder"
    if any(part.startswith(".") for part in target.relative_to(root).parts):
        return "is a link to a hidden file"
    return ""


def _name(path: PurePath) -> str:
    """Return the path with slashes; bytes that are not UTF-8 become replacement characters."""
    return os.fsencode(path.as_posix()).decode("utf-8", "replace")
