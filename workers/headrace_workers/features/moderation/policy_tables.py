"""Tables of a policy file, and what is wrong with one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace_workers.features.moderation.toml_lines import Keys


class Wrong(Exception):
    """A fault in a policy file, with the keys that lead to it."""

    def __init__(self, keys: Keys, reason: str) -> None:
        super().__init__(reason)
        self.keys = keys


def table_of(keys: Keys, value: object) -> Mapping[str, Any]:
    """Return the value, which must be a table."""
    if not isinstance(value, dict):
        raise Wrong(keys, "must be a table")
    return value


def only(keys: Keys, table: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse a key that is not known."""
    for name in table:
        if name not in known:
            raise Wrong((*keys, name), f"unknown key; known are {', '.join(sorted(known))}")


def read_path(keys: Keys, table: Mapping[str, Any], name: str, folder: Path) -> Path | None:
    """Return the path that a key names, relative to `folder`; None without the key."""
    value = table.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise Wrong((*keys, name), "must be a path")
    return None if value is None else folder / value


def read_switch(keys: Keys, table: Mapping[str, Any], name: str, default: bool) -> bool:
    """Return the value of a key that is true or false."""
    value = table.get(name, default)
    if not isinstance(value, bool):
        raise Wrong((*keys, name), f"is {value!r}, but must be true or false")
    return value
