"""Citations in an answer: the passages that it refers to. Pure, and linear in the answer."""

import re
from dataclasses import dataclass
from typing import Final

_CODE: Final = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
# [1], [1, 2], [1-3], 【1】; a link's text, as in [1](https://…), is none.
_CITED: Final = re.compile(r"[\[【]\s{0,2}(\d{1,6}(?:\s{0,2}[,;–-]\s{0,2}\d{1,6}){0,50})\s{0,2}[\]】](?!\()")
_RANGE: Final = re.compile(r"(\d+)(?:\s*[–-]\s*(\d+))?")
_WIDEST: Final = 100  # numbers of a range; of a wider one its ends count


@dataclass(frozen=True, slots=True)
class Cited:
    """The numbers that an answer cites, each once, as first mentioned. `unknown` are numbers of no passage."""

    numbers: tuple[int, ...]
    unknown: tuple[int, ...]


def cited(answer: str, passages: int) -> Cited:
    """Return what the answer cites of so many passages, [1] to [passages]. A number in code is no citation."""
    numbers = tuple(dict.fromkeys(_numbers(answer)))
    known = tuple(number for number in numbers if 1 <= number <= passages)
    return Cited(known, tuple(number for number in numbers if number not in known))


def _numbers(answer: str) -> list[int]:
    found: list[int] = []
    for mark in _CITED.finditer(_CODE.sub(" ", answer)):
        for first, last in _RANGE.findall(mark[1]):
            start, stop = int(first), int(last or first)
            found += range(start, stop + 1) if start <= stop < start + _WIDEST else (start, stop)
    return found
