"""Folders and files that are their owner's alone: a home holds prompts, answers and secrets."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def private_folder(folder: Path) -> None:
    """Create a folder, and those above it that are missing, for this user alone; one that is there stays as it is."""
    missing = [folder, *folder.parents]
    while missing and missing[-1].is_dir():
        missing.pop()
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)


def opened_privately(path: str, flags: int) -> int:
    """Open a file, as an `opener` of `open`; a new file is this user's alone, whatever the umask is."""
    return os.open(path, flags, 0o600)


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that readers see the whole new text or the old one. Only the owner may read it: addresses may
    hold passwords.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        draft.touch(mode=0o600)
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def keep_private(home: Path) -> None:
    """Create a home, and take from others what they may with it and with all that is in it.

    Files of other users, and the targets of links, stay as they are. A folder that is closed already is not looked
    into.
    """
    private_folder(home)
    _close(home, always=True)


def close_file(path: Path) -> None:
    """Take from others what they may with a file, where there is one and it is ours."""
    with suppress(OSError):  # a file system without modes
        facts = path.lstat()
        if facts.st_uid == os.geteuid() and facts.st_mode & _OTHERS and not stat.S_ISLNK(facts.st_mode):
            path.chmod(stat.S_IMODE(facts.st_mode) & ~_OTHERS)


def _close(folder: Path, *, always: bool = False) -> None:
    with suppress(OSError):  # it went meanwhile, or may not be read: then neither may others
        open_ = folder.stat().st_mode & _OTHERS
        close_file(folder)
        if not (open_ or always):
            return
        for entry in os.scandir(folder):
            if entry.is_dir(follow_symlinks=False):
                _close(Path(entry.path))
            else:
                close_file(Path(entry.path))
