"""In which line of a TOML file a key stands: Python's reader tells what a file says, and not where."""

import re
import tomllib
from typing import Any

Keys = tuple[str, ...]

_HEADER = re.compile(r"\s*(\[{1,2}[^\n]*?\]{1,2})\s*(?:#.*)?$")


def line_of(text: str, keys: Keys) -> int | None:
    """Return the line (from 1) in which this key, or the nearest key around it, gets its value; None without one.

    A line within a text of several lines may be taken for one of a key. It only tells a person where to look, so that
    is harmless.
    """
    best, nearest = None, 0
    table: Keys = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            table = _only_path(header[1]) or table
            found = table
        else:
            name, equals, _ = line.partition("=")
            found = (*table, *path) if equals and (path := _only_path(f"{name}= 0")) else ()
        common = _common(found, keys)
        # A line that leads elsewhere is no place of this key.
        if common > nearest and common == min(len(found), len(keys)):
            best, nearest = number, common
    return best


def _only_path(line: str) -> Keys | None:
    """Return the keys of a line that has one path alone, or None."""
    try:
        value: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    path = []
    while isinstance(value, dict | list) and value:
        if isinstance(value, list):
            value = value[0]
            continue
        [(name, value)] = value.items()
        path.append(name)
    return tuple(path)


def _common(one: Keys, other: Keys) -> int:
    common = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        common += 1
    return common
