"""An answer, and what it rests on, in sentences and their parts. Linear in the text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_END: Final = re.compile(r"(?<=[.!?])(?P<closing>[\"')\]”’]{0,3})\s+(?=[\"'(\[“‘*-]{0,3}[^\W_a-z])|\n+")
_BEGINS: Final = re.compile(r"\s*(?:[-*•>#|]{1,6}\s+|\d{1,3}[.)]\s+)?")
_CITATION: Final = re.compile(r"\s?[\[【]\d{1,6}(?:\s?[,;–-]\s?\d{1,6}){0,50}[\]】]")
_CLAUSE: Final = re.compile(
    r"(?:,(?! 0\d\d\b)|[;:])\s+(?:and |but |while |which |who |although |whereas )?"
    r"|\s+(?=(?:while|but|although|whereas|until|because|since|and|where|whose)\b)"
)
_LEAST_WORDS: Final = 3  # of a part of a sentence that is looked at by itself


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a text, from `start` to `stop`; `text` is without a bullet before it and citations in it."""

    text: str
    start: int
    stop: int


def sentences(text: str) -> Iterator[Sentence]:
    """Yield the sentences of a text, in order. The end of a line ends a sentence, too."""
    at = 0
    for start, stop in [*_ends(text), (len(text), len(text))]:
        begins = _BEGINS.match(text, at)
        begin = begins.end() if begins is not None else at
        raw = text[begin:start]
        plain = _CITATION.sub("", raw).strip()
        if plain:
            begin += len(raw) - len(raw.lstrip())
            yield Sentence(plain, begin, begin + len(raw.strip()))
        at = stop


def _ends(text: str) -> Iterator[tuple[int, int]]:
    """Yield the end of each sentence, and the place where the next may begin.

    A closing quotation mark belongs to it.
    """
    for match in _END.finditer(text):
        yield match.start() + len(match["closing"] or ""), match.end()


def clauses(sentence: str) -> list[str]:
    """Return the parts of a sentence that make statements of their own; none where it has one alone."""
    parts = [part for part in _CLAUSE.split(sentence) if len(part.split()) >= _LEAST_WORDS]
    return parts if len(parts) > 1 else []
