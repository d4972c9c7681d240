"""Lone surrogates in a JSON document: where they are, and what to do about them.

JSON can write them (`"\\ud800"`), UTF-8 and so every database cannot; a parser that refuses them names only a place in
the bytes. Pure.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

ADVICE: Final = (
    "half of a surrogate pair, which is no character: mostly a text was cut inside an emoji. Cut between characters, "
    "or replace it (Python: text.encode('utf-8', 'replace').decode(); JavaScript: text.toWellFormed())"
)

_MOST_NAMED = 5
_LONGEST_NAME = 64
_NAME = "(a field's name)"
_PLAIN = re.compile(r"[a-z_][a-z0-9_]{0,31}|[0-9]{1,9}|\[key\]|\(a field's name\)")
_WRITTEN = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
_LONE = re.compile("[\ud800-\udfff]")

# The name of a field or the place in a list, and the path to what it is in. Linked, so that a document that is both
# deep and wide costs no more memory than it has texts.
_Path = tuple[Any, str] | None


class _Fields(list[tuple[str, object]]):
    """An object's fields, also repeated ones."""


def lone_surrogates(document: bytes) -> list[str]:
    """Return a line for each of the first texts that hold one: field, character in it, what to do.

    Empty when there is none, or when the document cannot be read for another reason.
    """
    if not _WRITTEN.search(document):
        return []
    try:
        whole = json.loads(document.decode("utf-8", "surrogatepass"), object_pairs_hook=_Fields)
    except (ValueError, RecursionError):
        return []
    found: list[str] = []
    for path, text in _texts(whole):
        if (lone := _LONE.search(text)) and len(found) < _MOST_NAMED:
            found.append(f"{_named(path)}: character {lone.start() + 1} is {ADVICE}")
    return found


def _texts(whole: object) -> Iterator[tuple[_Path, str]]:
    """Yield every text with the path to it, in order; the names of fields too. No recursion: the nesting is a
    stranger's.
    """
    todo: list[tuple[_Path, object]] = [(None, whole)]
    while todo:
        path, value = todo.pop()
        match value:
            case str():
                yield path, value
            case _Fields():
                for name, _ in value:
                    yield (path, _NAME), name
                todo += [((path, name), inner) for name, inner in reversed(value)]
            case list():
                todo += [((path, str(place)), inner) for place, inner in reversed(list(enumerate(value)))]


def _named(path: _Path) -> str:
    names: list[str] = []
    while path is not None:
        path, name = path
        names.append(name)
    return in_words(reversed(names)) or "value"


def shown(names: Iterable[str]) -> str:
    """Return the path to a field: each name bounded in length, and printable."""
    return ".".join(map(_printable, names))


def quoted(name: str) -> str:
    """Return a name that its sender chose, as `shown` does, in quotes: logs leave out what is quoted."""
    return "'" + _printable(name).replace("'", "\N{RIGHT SINGLE QUOTATION MARK}") + "'"


def in_words(names: Iterable[str]) -> str:
    """Return the path to a field for people. A name that cannot be one of the contract's is quoted."""
    return ".".join(name if _PLAIN.fullmatch(name) else quoted(name) for name in names)


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name[:_LONGEST_NAME])
