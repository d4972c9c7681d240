"""Prefixes and endings that turn a word into its opposite."""

from collections.abc import Container
from typing import Final

_PREFIXES: Final = ("un", "in", "im", "il", "ir", "non", "dis", "de", "mis", "anti")
_ENDINGS: Final = ("less", "free")


def denies(key: str, plain: Container[str]) -> bool:
    """Return True if a stem is one of the plain stems with such a prefix or ending."""
    if not (key.startswith(_PREFIXES) or key.endswith(_ENDINGS)):
        return False
    return any(key.startswith(prefix) and _stands(key[len(prefix) :], plain) for prefix in _PREFIXES) or any(
        key.endswith(ending) and _stands(key[: -len(ending)], plain) for ending in _ENDINGS
    )


def _stands(rest: str, plain: Container[str]) -> bool:
    return len(rest) > 2 and (rest in plain or rest + "e" in plain)
