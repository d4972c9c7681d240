"""Documents that are nearly events: valid ones with a few things done to them, as JSON values."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from tests.schemas.strategies import STRATEGIES

from headrace_schemas.codec import encode_value

ODD: tuple[Any, ...] = (
    None, True, False, -3, -1, 0, 1, 2, 9, 10, 12, 1001, 10**30, 2**32, 2**32 - 1,
    -0.0, 1.0, 1.5, 2.0, 5.0, 5.5, 1e300, -1e300, 2.0**32, 32_768.0, 32_769.0,
    "", "a", "A", "a b", "ü", "a\nb", "a\n", "-", ".a", "a" * 64, "a" * 65, "ü" * 256, "a" * 257, "a" * 2_001, "5",
    "\x00",    "interactive", "block", "allow", "stop", "1-5", "contains", "length", "completed", "utf-8", "system",
    "2026-01-31T12:00:00Z", "2026-01-31 12:00:00z", "2026-01-31t12:00:00.123456789+05:30", "2026-01-31T12:00:00",
    "2026-01-31T12:00:00.1234567890Z", "2026-01-31T12:00Z", "2026-01-31T24:00:00Z", "2026-01-31T23:59:60Z",
    "2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+0530", "0000-01-31T12:00:00Z", "2026-13-31T12:00:00Z",
    "20260131T120000Z", "2026-01-31", "1800000000", " 2026-01-31T12:00:00Z", "2026-02-30T12:00:00Z",
    "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11", "6F1D8A52-5D0C-5C39-9A53-0D1F6F6C7F11", "6f1d8a52",
    [], [0], [[]], ["a"], {}, {"a": "b"}, {"": "b"}, {"a": 1}, {"a\x00": "b"}, {"a\n": "b"}, {"a" * 257: "b"},
    {"type": "eq", "key": "k", "value": 1}, {"type": "in", "key": "k", "value": ["a"]}, {"type": "or", "filters": []},
    {"type": "or", "filters": [{"type": "ne", "key": "k", "value": True}]}, "eq", "nin", "and", "a" * 513, True,
    "abstain", {"criterion": "f1"}, {"criterion": "rubric", "question": "q"}, {"criterion": "length", "min_words": 1},
)  # fmt: skip
NAMES = (
    "surprise", "", "title", "default", "text", "prompt", "messages", "reason", "value", "tenant", "deadline", "seed",
    "priority", "max_words", "criterion", "criteria", "lane", "reference", "metadata", "model", "scale", "sampling",
    "answer", "type", "key", "filters", "knowledge", "knowledge_filter", "without_passages", "input",
    "dimensions", "application", "variables",
)  # fmt: skip
# Copies: what is drawn may be changed later.
_ODD = st.sampled_from(ODD).map(copy.deepcopy)
_NAMES = st.sampled_from(NAMES)


def neighbours(document: Any) -> Iterator[Any]:
    """Every document that is one change away: each place with each odd value, each field dropped or added."""
    for path, node in list(_paths(document)):
        if path:
            yield from (_with(document, path, odd) for odd in ODD)
            yield _with(document, path)
        if isinstance(node, list):
            yield from (_with(document, path, node * times) for times in (0, 2, 65))
        if isinstance(node, dict):
            yield from (
                _with(document, [*path, name], odd) for name in NAMES if name not in node for odd in (None, "a")
            )


def _paths(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[list[Any], Any]]:
    yield list(path), node
    for key, child in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from _paths(child, (*path, key))


def _with(document: Any, path: list[Any], *values: Any) -> Any:
    """The document with another value at a place, or with nothing there. The two share what is not on the way there."""
    if not path:
        return values[0]
    changed = copy.copy(document)
    if len(path) > 1:
        changed[path[0]] = _with(document[path[0]], path[1:], *values)
    elif values:
        changed[path[0]] = values[0]
    else:
        del changed[path[0]]
    return changed


@st.composite
def near_misses(draw: st.DrawFn, event_type: str) -> Any:
    """An event's document with none to three changes: a value swapped, a field dropped, added or repeated."""
    document = json.loads(encode_value(draw(STRATEGIES[event_type])))
    for _ in range(draw(st.integers(0, 3))):
        document = _changed(draw, document)
    return document


def _changed(draw: st.DrawFn, document: Any) -> Any:
    places = list(_places(document))
    if not places:
        return draw(_ODD)
    holder, key = draw(st.sampled_from(places))
    match draw(st.sampled_from(["swap", "swap", "drop", "add", "float", "repeat"])):
        case "swap":
            holder[key] = draw(_ODD)
        case "drop":
            del holder[key]
        case "add" if isinstance(holder, dict):
            holder[draw(_NAMES)] = draw(_ODD)
        case "float" if isinstance(holder[key], int) and not isinstance(holder[key], bool):
            holder[key] = float(holder[key])
        case "repeat" if isinstance(holder[key], list):
            holder[key] = holder[key] * draw(st.integers(0, 20))
        case _:
            pass
    return document


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    for key, child in list(
        node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    ):
        yield node, key
        yield from _places(child)
