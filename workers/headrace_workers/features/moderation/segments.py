"""The parts of a text that a head reads: its sentences, and longer stretches that overlap, up to the whole."""

import re
from collections.abc import Iterator
from typing import Final

_LONGEST: Final = 1_000  # characters of one part: what embedders read of a text
_OVERLAP: Final = 200
_MOST: Final = 256  # sentences of a text; in a longer text several are read as one
_END: Final = re.compile(r"[.!?…。！？]+[\"'”’)\]]*\s*|\n+")

Part = tuple[int, int]


def segments(text: str) -> list[Part]:
    """Start and end of each part, in order, none twice. Linear in the text, and their number is bounded by its length.

    A short text of one sentence is one part. Nothing but white space is none.
    """
    least = max(1, len(text) // _MOST)
    parts = {*_sentences(text, least), *stretches(len(text), _LONGEST, _OVERLAP)}
    return sorted(part for part in parts if not text[slice(*part)].isspace())


def _sentences(text: str, least: int) -> Iterator[Part]:
    start = 0
    for end in _END.finditer(text):
        if end.end() - start >= least:
            yield from _bounded(start, end.end())
            start = end.end()
    yield from _bounded(start, len(text))


def _bounded(start: int, end: int) -> Iterator[Part]:
    for begin in range(start, end, _LONGEST):
        yield begin, min(begin + _LONGEST, end)


def stretches(length: int, longest: int, overlap: int) -> Iterator[Part]:
    """Start and end of parts of at most so many characters, of a text of this length; each begins in the one before."""
    start = 0
    while start < length:
        end = min(start + longest, length)
        yield start, end
        if end == length:
            return
        start = end - overlap
