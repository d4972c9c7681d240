"""Documents that are nearly events: valid ones with a few things done to them, as JSON values."""

import copy
import json
from typing import Any

from hypothesis import strategies as st
from tests.schemas.strategies import EVENTS

from headrace_schemas.codec import encode_value

_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([0.0, -0.0, 1.0, 5.0, 5.5, 1e300, -1e300, 10**30, 2**32, 2.0**32, 32_768.0, 1001]),
    st.sampled_from(["", "a", "A", "a b", "ü", "a\nb", "-", "a" * 65, "a" * 257, "a" * 2_001, "5", "\x00", "null"]),
    st.sampled_from(["interactive", "block", "stop", "1-5", "contains", "length", "completed", "utf-8"]),
    st.sampled_from(
        [
            "2026-01-31T12:00:00Z",
            "2026-01-31 12:00:00z",
            "2026-01-31t12:00:00.123456789+05:30",
            "2026-01-31T12:00:00.1234567890Z",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00Z",
            "2026-01-31T24:00:00Z",
            "2026-01-31T23:59:60Z",
            "2026-01-31T12:00:00+24:00",
            "2026-01-31T12:00:00+0530",
            "0000-01-31T12:00:00Z",
            "2026-13-31T12:00:00Z",
            "20260131T120000Z",
            "2026-01-31",
            "1800000000",
            " 2026-01-31T12:00:00Z",
        ]
    ),
    st.sampled_from(["6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11", "6F1D8A52-5D0C-5C39-9A53-0D1F6F6C7F11", "6f1d8a52"]),
    st.sampled_from([[], [0], [[]], ["a"]]),
    st.sampled_from([{}, {"a": "b"}, {"": "b"}, {"a": 1}, {"criterion": "f1"}]),
    st.sampled_from([{"criterion": "rubric", "question": "q"}, {"criterion": "length", "min_words": 1}]),
).map(copy.deepcopy)  # fmt: skip - what is drawn may be changed later
_NAMES = st.sampled_from(
    ["surprise", "", "title", "default", "text", "prompt", "messages", "reason", "value", "tenant", "deadline", "seed",
     "priority", "max_words", "criterion", "criteria", "lane", "reference", "metadata", "model", "scale", "sampling"]
)  # fmt: skip


@st.composite
def near_misses(draw: st.DrawFn, event_type: str) -> Any:
    """An event's document with none to three changes: a value swapped, a field dropped, added or repeated."""
    document = json.loads(encode_value(draw(EVENTS[event_type])))
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


def _places(node: Any) -> Any:
    for key, child in list(
        node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    ):
        yield node, key
        yield from _places(child)
