"""Replaces spans of a text by labels."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` (exclusive) of a text, and the category that names what stands there."""

    start: int
    end: int
    category: str


def redact(text: str, spans: Iterable[Span]) -> str:
    """Return the text with each span replaced by its category in brackets: `[EMAIL]`.

    Spans that overlap become one, which covers them all and is named after the longest of them (the first of equals).
    Offsets are in characters. Empty spans are passed over.
    """
    parts: list[str] = []
    done = 0
    for span in merge(spans):
        parts += (text[done : span.start], f"[{span.category.upper()}]")
        done = span.end
    parts.append(text[done:])
    return "".join(parts)


def merge(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order, with overlapping ones joined. Spans that only touch stay apart."""
    merged: list[Span] = []
    longest = 0  # length of the span that named the last group
    for span in sorted((s for s in spans if s.start < s.end), key=lambda s: s.start):
        length = span.end - span.start
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            name = span.category if length > longest else last.category
            longest = max(longest, length)
            merged[-1] = Span(last.start, max(last.end, span.end), name)
        else:
            merged.append(span)
            longest = length
    return merged
