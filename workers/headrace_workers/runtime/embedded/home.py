"""Faults of a home, in words: it cannot be written, or has no space left."""

import errno
import shutil
from pathlib import Path

from headrace_schemas.errors import ConfigurationError, HeadraceError, Unavailable

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TOO_LITTLE = 1_000_000  # bytes: not even the lists and logs of a stack can be written then


def unusable(home: Path, error: OSError) -> HeadraceError:
    """Return an error of the file system as one for people: where, what, and what to do."""
    where = error.filename or home
    if error.errno in _FULL:
        return Unavailable(f"no space is left for {where} ({error.strerror}): make room, and start again")
    return ConfigurationError(
        f"{where} cannot be written ({error.strerror}), and {home} must be a folder that this user can write: set "
        "HEADRACE_HOME to one"
    )


def obstacle(home: Path) -> str | None:
    """Return the obstacle that stops every process of this home, a full disk; None if there is room."""
    try:
        free = shutil.disk_usage(home).free
    except OSError as error:
        return f"{home} cannot be looked at ({error.strerror})"
    return f"no space is left on the disk of {home}: make room" if free < _TOO_LITTLE else None
