"""Cuts a long text into pieces for patterns that are slower than linear, so that the whole is linear again."""

import re
from collections.abc import Iterable, Iterator

SIZE = 2_048  # characters of one piece; a quadratic pattern costs at most SIZE / 2 steps a character
# A span of at most so many characters, cut by one piece, is whole in the next: the longest e-mail address has 320.
OVERLAP = 384
_SLACK = 64  # how far back a cut moves to reach white space
_GAP = re.compile(r"\s{16,}")  # nothing that detectors look for goes across such a gap


def windows(text: str) -> Iterator[tuple[int, str]]:
    """Yield pieces of the text with their offsets. A text of at most `SIZE` characters without wide gaps is one piece.

    Runs of 16 or more white space characters separate pieces: patterns with several optional spaces in a row are
    cubic in them. Longer stretches are cut at white space where there is some near, with an overlap.
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
