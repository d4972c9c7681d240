"""JSON Web Tokens of any length (RFC 7515 and 7516), in linear time: found by their header, read whole."""

import base64
import json
import re
from collections.abc import Iterator
from typing import Any, Final

# Base64 of `{"`, and of `{` with a space, a line feed or a carriage return after it.
_BEGIN: Final = r"ey[JA]|ew[o0]"
_SEGMENT: Final = re.compile(rf"(?:{_BEGIN})[A-Za-z0-9_\-=]+")
_START: Final = re.compile(_BEGIN)
_PAYLOAD: Final = re.compile(r"\.[A-Za-z0-9_\-+/=]*")
_REST: Final = re.compile(r"(?:\.[A-Za-z0-9_\-+/=]*)+")
# Places in one segment where a header may begin, when other characters stand before it. A segment with more of them,
# none of which is a header, is taken for a token: to try them all would be quadratic.
_MOST_STARTS: Final = 8


def jwts(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each token in the text, signature included."""
    done = 0
    for segment in _SEGMENT.finditer(text):
        payload = _PAYLOAD.match(text, segment.end())
        if payload is None or segment.start() < done:
            continue
        start = _header_start(text, segment.start(), segment.end(), payload[0][1:])
        rest = None if start is None else _REST.match(text, segment.end())
        if start is not None and rest is not None and (tail := rest[0].rstrip(".")):  # else a sentence ended
            done = segment.end() + len(tail)
            yield start, done


def _header_start(text: str, start: int, end: int, payload: str) -> int | None:
    """Return the place where the token's header begins in text[start:end], or None."""
    for tried, candidate in enumerate(_START.finditer(text, start, end)):
        if tried == _MOST_STARTS:
            return start
        header = _decoded(text[candidate.start() : end])
        if isinstance(header, dict) and ("alg" in header or _decoded(payload) is not None):
            return candidate.start()
    return None


def _decoded(segment: str) -> Any:
    """Return the JSON value that a segment encodes in base64, or None."""
    unpadded = segment.rstrip("=")
    try:
        return json.loads(base64.urlsafe_b64decode(unpadded + "=" * (-len(unpadded) % 4)))
    except (ValueError, RecursionError):
        return None
