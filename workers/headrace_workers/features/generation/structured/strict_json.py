"""JSON that a model wrote (RFC 8259, of whole characters, each key of an object once), or why it is none.

Nobody has moderated it, so a reason quotes nothing of it, and a place has the names that the caller knows: any other
is `*`. Pure.
"""

import json
from collections.abc import Collection
from typing import Any, Final

from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_workers.features.generation.structured.dialects import pointer

_SPACE: Final = " \t\n\r"
_DIGITS: Final = 4_000  # of a number; Python reads none of more than 4,300


class NotJson(ValueError):
    """A text that is no JSON. `place` is a JSON pointer or a number of characters; None where it cannot be told."""

    def __init__(self, reason: str, place: str | None = None) -> None:
        super().__init__(reason)
        self.place = place


def read_whole(text: str, names: Collection[str] = ()) -> Any:
    """Return the value of a text that is JSON as a whole. Raise NotJson, whose place has these names of keys."""
    value, end = read_beginning(text, names)
    rest = text[end:].lstrip(_SPACE)
    if rest:
        place = len(text) - len(rest)
        raise NotJson(f"it goes on after its end at character {place}", str(place))
    return value


def read_beginning(text: str, names: Collection[str] = ()) -> tuple[Any, int]:
    """Return the JSON value that a text begins with, and where that ends. Raise NotJson, as `read_whole` does."""
    twice: list[tuple[dict[str, Any], str]] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            seen: set[str] = set()
            name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            twice.append((found, name))
        return found

    decoder = json.JSONDecoder(object_pairs_hook=once, parse_constant=_refuse, parse_int=_whole, parse_float=_finite)
    try:
        value, end = decoder.raw_decode(text, len(text) - len(text.lstrip(_SPACE)))
    except json.JSONDecodeError as error:
        # Python's words for strings end before a place.
        raise NotJson(f"{error.msg.removesuffix(' starting at')} at character {error.pos}", str(error.pos)) from None
    except RecursionError:
        raise NotJson("it is nested too deep", "0") from None
    if twice:
        owner, name = twice[-1]
        steps = (*_steps_to(value, owner), name)
        where = pointer(tuple(str(each) if isinstance(each, int) or each in names else "*" for each in steps))
        raise NotJson("an object has a key twice", where[:MAX_SHORT_TEXT])
    if _holds_half(value, text):
        raise NotJson("a text holds half of a character (a lone surrogate)")
    return value, end


def _holds_half(value: Any, text: str) -> bool:
    if text.isascii() and "\\u" not in text:
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _steps_to(document: Any, wanted: dict[str, Any]) -> tuple[str | int, ...]:
    """Return the steps to an object; none where a key that came twice has hidden it."""
    waiting: list[tuple[Any, tuple[str | int, ...]]] = [(document, ())]
    while waiting:
        node, steps = waiting.pop()
        if node is wanted:
            return steps
        parts = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        waiting += [(part, (*steps, step)) for step, part in parts if isinstance(part, dict | list)]
    return ()


def _refuse(constant: str) -> None:
    raise NotJson(f"{constant} is no JSON")


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise NotJson(f"a number has more than {_DIGITS} digits")
    return int(digits)


def _finite(digits: str) -> float:
    found = float(digits)
    if found in (float("inf"), float("-inf")):
        raise NotJson("a number is too large")
    return found
