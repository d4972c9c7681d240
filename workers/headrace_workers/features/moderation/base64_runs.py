"""Text inside runs of base64, decoded once. Base64 inside decoded text is not decoded again."""

import base64
import binascii
import re
from typing import Final, NamedTuple

_SHORTEST: Final = 16  # characters of a run: 12 that it says
# A run of so many characters without a space, in a time that is a fraction of looking for the run itself.
_LONG: Final = re.compile(rf" [^ ]{{{_SHORTEST}}}")
_RUN: Final = re.compile(rf"[A-Za-z0-9+/_-]{{{_SHORTEST},}}={{0,2}}")
_READABLE: Final = 0.9  # of the characters: below that, chance made a text of bytes
_URL_SAFE: Final = str.maketrans("-_", "+/")


class Decoded(NamedTuple):
    """The decoded text, a run a line, and for each character the span of the original that holds it."""

    text: str
    begins: list[int]
    ends: list[int]


def may_hold_runs(text: str) -> bool:
    """Return True if any word of the text is as long as a run."""
    return text.find(" ", 0, _SHORTEST) < 0 or _LONG.search(text) is not None


def decoded(text: str) -> Decoded | None:
    """Return the decoded runs of base64 that are text, or None. They have no more characters than the text."""
    if not may_hold_runs(text):
        return None
    texts, begins, ends = [], [], []
    for run in _RUN.finditer(text):
        if (words := _words(run[0])) is not None:
            # A part of a run cannot be cut out of it.
            texts.append(f"{words}\n")
            begins += [run.start()] * (len(words) + 1)
            ends += [run.end()] * (len(words) + 1)
    return Decoded("".join(texts), begins, ends) if texts else None


def _words(run: str) -> str | None:
    plain = run.rstrip("=").translate(_URL_SAFE)
    plain = plain[: len(plain) - (len(plain) % 4 == 1)]
    try:
        words = base64.b64decode(f"{plain}==").decode()  # more than is needed does no harm
    except (binascii.Error, UnicodeDecodeError):
        return None
    readable = sum(character.isprintable() or character.isspace() for character in words)
    return words if readable >= _READABLE * len(words) else None
