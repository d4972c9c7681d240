"""JSON Schemas that a criterion may bring: bounded in size and work, and self-contained. Pure.

Checking is linear in the answer for each subschema that applies. Constructs that make it more are refused here:
references multiply (twenty definitions, each of which names the next twice, are a million subschemas), and a schema
that refers to itself has no bound at all.
"""

import json
from typing import Any, Final
from urllib.parse import unquote

from headrace_schemas.limits import NO_NUL, PATTERNS

MAX_CHARACTERS: Final = 20_000  # of the schema as JSON
MAX_DEPTH: Final = 64  # levels, with references followed
MAX_SUBSCHEMAS: Final = 2_000  # objects in it, with references followed
_OF_A_PATTERN: Final = 20  # what each pattern counts as: it reads every character

DIALECTS: Final = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
)
_DEFINITIONS: Final = ("$defs", "definitions")
_NOT_FOLLOWED: Final = ("$dynamicRef", "$recursiveRef")
_OF_THE_WHOLE: Final = ("$id", "$schema")  # in a part of it they would change what references mean


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema as it is. ValueError, in words that go on from its name, when it may not be used."""
    try:
        characters = len(json.dumps(schema, ensure_ascii=False, allow_nan=False))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except ValueError:
        raise ValueError("holds a number that is not finite") from None
    if characters > MAX_CHARACTERS:
        raise ValueError(f"has more than {MAX_CHARACTERS} characters as JSON")
    dialect = schema.get("$schema", DIALECTS[0])
    if not isinstance(dialect, str) or dialect.removesuffix("#") not in DIALECTS:
        raise ValueError(f"$schema must be one of {', '.join(DIALECTS)}, or be left out")
    subschemas, _ = _Walk(schema).size(schema, 0)
    if subschemas > MAX_SUBSCHEMAS:
        raise ValueError(
            f"has more than {MAX_SUBSCHEMAS} subschemas with its references followed, each pattern counted as "
            f"{_OF_A_PATTERN}"
        )
    return schema


_TOO_DEEP: Final = f"is nested deeper than {MAX_DEPTH} levels with its references followed"


def _patterns(node: dict[str, Any]) -> int:
    """Return how many regular expressions stand in an object itself."""
    named = node.get("patternProperties")
    return isinstance(node.get("pattern"), str) + (len(named) if isinstance(named, dict) else 0)


class _Walk:
    """Count of objects with references followed. Each part is counted once."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._known: dict[int, tuple[int, int]] = {}  # by a node's identity: objects, and levels
        self._open: set[int] = set()

    def size(self, node: Any, depth: int) -> tuple[int, int]:
        """Return the number of objects in a node, and its levels."""
        if isinstance(node, str):
            if "\x00" in node:
                raise ValueError(PATTERNS[NO_NUL])
            return 0, 0
        if not isinstance(node, dict | list):
            return 0, 0
        if id(node) in self._open:
            raise ValueError("refers to itself: a schema of bounded depth is needed here")
        objects, levels = self._known.get(id(node)) or self._inside(node, depth)
        if depth + levels > MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        return objects, levels

    def _inside(self, node: dict[str, Any] | list[Any], depth: int) -> tuple[int, int]:
        if depth >= MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        self._open.add(id(node))
        parts = [self.size(part, depth + 1) for part in self._parts(node)]
        self._open.remove(id(node))
        if node is self._root:  # what is defined there applies where it is referred to
            for name in _DEFINITIONS:
                self.size(node.get(name), depth + 1)
        own = 1 + _OF_A_PATTERN * _patterns(node) if isinstance(node, dict) else 0
        found = own + sum(objects for objects, _ in parts), 1 + max((levels for _, levels in parts), default=0)
        self._known[id(node)] = found
        return found

    def _parts(self, node: dict[str, Any] | list[Any]) -> list[Any]:
        if isinstance(node, list):
            return node
        names = _NOT_FOLLOWED if node is self._root else (*_NOT_FOLLOWED, *_OF_THE_WHOLE)
        for name in names:
            if isinstance(node.get(name), str):
                raise ValueError(f"has {name} where it is not followed: use $ref and #/$defs/…")
        reference = node.get("$ref")
        target = [self._target(reference)] if isinstance(reference, str) else []
        defined = _DEFINITIONS if node is self._root else ()
        return [*node, *(part for name, part in node.items() if name not in defined), *target]

    def _target(self, reference: str) -> Any:
        """Return the target of a reference: JSON pointers (RFC 6901) into the schema itself, and nowhere else."""
        if reference != "#" and not reference.startswith("#/"):
            raise ValueError("has a $ref that leads out of it: only #/… names a part of the schema itself")
        found: Any = self._root
        for step in unquote(reference).split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isascii() and name.isdigit() and int(name[:9]) < len(found):
                found = found[int(name[:9])]
            else:
                raise ValueError("has a $ref that leads to nothing in it")
        return found
