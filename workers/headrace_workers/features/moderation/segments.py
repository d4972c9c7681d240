"""Parts of a long text: sentences and stretches for models, windows for patterns."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

_LONGEST: Final = 1_000  # characters of one part: what embedders read of a text
_OVERLAP: Final = 200
_MOST: Final = 256  # sentences of a text; in a longer text several are read as one
_END: Final = re.compile(r"[.!?…。！？]+[\"'”’)\]]*\s*|\n+")

Part = tuple[int, int]


def segments(text: str) -> list[Part]:
    """Return start and end of each part, in order, none twice; none for white space alone. Linear in the text."""
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


# Cuts a long text into pieces for patterns that are slower than linear, so that the whole is linear again.

SIZE = 2_048  # characters of one piece; a quadratic pattern costs at most SIZE / 2 steps a character
# A span of at most so many characters, cut by one piece, is whole in the next: the longest e-mail address has 320.
OVERLAP = 384
_SLACK = 64  # how far back a cut moves to reach white space
_GAP = re.compile(r"\s{16,}")  # nothing that detectors look for goes across such a gap


def windows(text: str) -> Iterator[tuple[int, str]]:
    """Yield pieces of the text with their offsets. Wide gaps separate pieces (some patterns are cubic in white space);
    longer stretches than `SIZE` are cut with an overlap.
    """
    start = 0
    for gap in _GAP.finditer(text):
        yield from _pieces(text, start, gap.start())
        start = gap.end()
    yield from _pieces(text, start, len(text))


def outermost(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order, without spans inside another: a piece may show a part of what the next shows whole."""
    kept: list[tuple[int, int]] = []
    for start, end in sorted(set(spans), key=lambda span: (span[0], -span[1])):
        if not kept or end > kept[-1][1]:
            kept.append((start, end))
    return kept


def _pieces(text: str, start: int, end: int) -> Iterator[tuple[int, str]]:
    while end - start > SIZE:
        stop = _cut(text, start + SIZE)
        yield start, text[start:stop]
        start = _cut(text, stop - OVERLAP)
    if start < end:
        yield start, text[start:end]


def _cut(text: str, at: int) -> int:
    """Return the place after the last white space in the `_SLACK` characters before `at`, else `at`."""
    for position in range(at, at - _SLACK, -1):
        if text[position - 1].isspace():
            return position
    return at
