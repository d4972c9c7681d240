"""Which passages an answer cites. Pure, and linear in the answer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headrace_workers.knowledge.chunking import Chunk, Span

_CODE: Final = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
# [1], [1, 2], [1-3], 【1】; a link's text, as in [1](https://…), is none.
_CITED: Final = re.compile(r"[\[【]\s{0,2}(\d{1,6}(?:\s{0,2}[,;–-]\s{0,2}\d{1,6}){0,50})\s{0,2}[\]】](?!\()")
_RANGE: Final = re.compile(r"(\d+)(?:\s*[–-]\s*(\d+))?")
_WIDEST: Final = 100  # numbers of a range; of a wider one its ends count


@dataclass(frozen=True, slots=True)
class Citation:
    """Passage [number] of the prompt: the document's text[span[0]:span[1]], below the headings `section`."""

    number: int
    document: str
    section: str
    span: Span


@dataclass(frozen=True, slots=True)
class Cited:
    """What an answer cites, each number once, as first mentioned. `unknown` are numbers of no passage."""

    citations: tuple[Citation, ...]
    unknown: tuple[int, ...]


def cited(answer: str, passages: Sequence[Chunk]) -> Cited:
    """The citations in the answer; passage [n] is the n-th. What stands in code is none."""
    numbers = list(dict.fromkeys(_numbers(answer)))
    return Cited(
        tuple(
            Citation(number, chunk.document, chunk.section, chunk.span)
            for number in numbers
            if 1 <= number <= len(passages)
            for chunk in [passages[number - 1]]
        ),
        tuple(number for number in numbers if not 1 <= number <= len(passages)),
    )


def _numbers(answer: str) -> list[int]:
    found: list[int] = []
    for mark in _CITED.finditer(_CODE.sub(" ", answer)):
        for first, last in _RANGE.findall(mark[1]):
            start, stop = int(first), int(last or first)
            found += range(start, stop + 1) if start <= stop < start + _WIDEST else (start, stop)
    return found
