"""TOML files: the line in which a key stands, and a writer. Python's reader tells what a file says, and not where."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

Keys = tuple[str | int, ...]  # a number counts the tables of a list, from 0

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_QUOTES = ('"""', "'''")
_HEADER = re.compile(r"\s*(\[{1,2}[^\n]*?\]{1,2})\s*(?:#.*)?$")


def fault_at(named: str, line: int | None, keys: Keys, reason: str) -> str:
    """Return the message of a fault in a file: its name, the line, the key (lists count from 1), and the reason."""
    subject = "".join(f" {key + 1}" if isinstance(key, int) else f".{key}" for key in keys).lstrip(".")
    return f"{named}{'' if line is None else f', line {line}'}: {subject + ': ' if subject else ''}{reason}"


def line_of(text: str, keys: Keys) -> int | None:
    """Return the line (from 1) in which this key, or the nearest key around it, gets its value; None without one."""
    best, nearest = None, 0
    table: Keys = ()
    counts: dict[Keys, int] = {}  # of the tables of lists so far
    quotes = None  # of the text of several lines that the line is in
    for number, line in enumerate(text.split("\n"), start=1):
        if quotes is not None:
            quotes = None if line.count(quotes) % 2 else quotes
            continue
        quotes = next((quote for quote in _QUOTES if line.count(quote) % 2), None)
        if header := _HEADER.match(line):
            if path := _only_path(header[1]):
                table = _numbered(path, counts, opens=header[1].startswith("[["))
            found = table
        else:
            name, equals, _ = line.partition("=")
            found = (*table, *path) if equals and (path := _only_path(f"{name}= 0")) else ()
        common = _common(found, keys)
        # A line that leads elsewhere is no place of this key.
        if common > nearest and common == min(len(found), len(keys)):
            best, nearest = number, common
    return best


def _numbered(path: Keys, counts: dict[Keys, int], *, opens: bool) -> Keys:
    """Return the keys of a header, with the numbers of the tables that it stands in. `opens`: it begins the next."""
    keys: Keys = ()
    for place, name in enumerate(path, start=1):
        keys = (*keys, name)
        if opens and place == len(path):
            counts[keys] = counts.get(keys, -1) + 1
        if keys in counts:
            keys = (*keys, counts[keys])
    return keys


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


def to_toml(document: Mapping[str, Any]) -> str:
    """Return a document as TOML. It has texts, numbers, true and false, lists, and tables with these."""
    return "\n".join(_table((), document)).lstrip("\n") + "\n"


def _table(path: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table: its values, then the tables in it."""
    inner = {name: value for name, value in table.items() if _is_table(value) or _are_tables(value)}
    yield from (f"{_key(name)} = {_value(value)}" for name, value in table.items() if name not in inner)
    for name, value in inner.items():
        keys = (*path, name)
        header = ".".join(map(_key, keys))
        if isinstance(value, Mapping):
            yield from ("", f"[{header}]", *_table(keys, value))
        else:
            for item in value:
                yield from ("", f"[[{header}]]", *_table(keys, item))


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _are_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_table, value))


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _value(value: Any) -> str:
    match value:
        case str() if "\n" in value:
            lines = [_text(line)[1:-1] for line in value.split("\n")]
            return '"""\n' + "\n".join(lines) + '"""'
        case str():
            return _text(value)
        case Mapping():
            return "{" + ", ".join(f"{_key(name)} = {_value(item)}" for name, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, allow_nan=False)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
