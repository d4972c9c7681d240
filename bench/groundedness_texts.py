"""Sentences that a document supports, and what one change makes of each: the pairs of the bench of groundedness.

The documents and the supported sentences are invented and written for this bench (groundedness.txt). A change is of one
kind: another number, another name *of the same document*, a denial put in or taken out, or a sentence of another
document. Beside those stand sentences that contradict their document in words of their own.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TEXTS: Final = Path(__file__).with_name("groundedness.txt")
HELD_OUT: Final = Path(__file__).with_name("groundedness_held_out.txt")
HELD_OUT_2: Final = Path(__file__).with_name("groundedness_held_out_2.txt")
SUPPORTED: Final = "supported"
CONTRADICTION: Final = "contradiction"
_NUMBER: Final = re.compile(r"(?<![\w.,])\d[\d,.]*\d|(?<![\w.,])\d(?![\w.,]\d)")
_DENIED: Final = (
    (re.compile(r"\b(is|are|was|were|has|have|had|can|may|must|could|will|should|did|does|do) not\b"), r"\1"),
    (re.compile(r"\bnot\b "), ""),
    (re.compile(r"\b[Nn]obody may\b"), "Anybody may"),
    (re.compile(r"\bunable\b"), "able"),
    (re.compile(r"\bwithout\b"), "with"),
    (re.compile(r"\bno\b"), "an"),
)
_AFFIRMED: Final = re.compile(r"\b(is|are|was|were|has|have|had|can|may|must|could|will|should)\b(?! not)")


@dataclass(frozen=True, slots=True)
class Pair:
    """A document's number and text, a sentence about it, and what was done to that: its kind, or `supported`; a
    `contradiction` was written as such.
    """

    document: int
    context: str
    claim: str
    kind: str


def pairs(texts: Path = TEXTS) -> list[Pair]:
    """All pairs of a file, in the order of its documents."""
    blocks = texts.read_text().split("\n\n")[1:]
    documents = [block.strip().splitlines() for block in blocks]
    claims = [[line[2:] for line in document if line.startswith("+ ")] for document in documents]
    found: list[Pair] = []
    for number, document in enumerate(documents):
        context = document[0]
        groups = [[name.strip() for name in line[2:].split("|")] for line in document if line.startswith("~ ")]
        for place, claim in enumerate(claims[number]):
            found.append(Pair(number, context, claim, SUPPORTED))
            found += [Pair(number, context, changed, "number") for changed in _other_numbers(claim, context)]
            found += [Pair(number, context, changed, "name") for changed in _other_names(claim, groups)]
            found += [Pair(number, context, changed, "negation") for changed in _denied(claim)]
            others = claims[(number + 7) % len(claims)]
            found.append(Pair(number, context, others[place % len(others)], "foreign"))
        found += [Pair(number, context, line[2:], CONTRADICTION) for line in document if line.startswith("! ")]
    return found


def _other_numbers(claim: str, context: str) -> Iterator[str]:
    """One number by one that the document has elsewhere, and one by one that it has not."""
    there = _NUMBER.findall(context)
    for match in list(_NUMBER.finditer(claim))[:1]:
        number = match.group()
        before, after = claim[: match.start()], claim[match.end() :]
        # Of those of as many digits, so that the sentence still reads well.
        others = [other for other in there if other not in claim and len(other) == len(number)]
        if others:
            yield before + others[len(claim) % len(others)] + after
        digits = [place for place, sign in enumerate(number) if sign.isdigit()]
        place = digits[len(claim) % len(digits)]
        changed = number[:place] + str((int(number[place]) % 9) + 1) + number[place + 1 :]
        if changed not in there:
            yield before + changed + after


def _other_names(claim: str, groups: list[list[str]]) -> Iterator[str]:
    for group in groups:
        here = [name for name in group if re.search(rf"\b{re.escape(name)}\b", claim, re.IGNORECASE)]
        if len(here) == 1:  # of two that both stand there, an exchange may say the same
            other = group[(group.index(here[0]) + 1) % len(group)]
            changed = re.sub(rf"\b{re.escape(here[0])}\b", other, claim, flags=re.IGNORECASE)
            yield changed[0].upper() + changed[1:]


def _denied(claim: str) -> Iterator[str]:
    for pattern, instead in _DENIED:
        if pattern.search(claim):
            yield pattern.sub(instead, claim, count=1)
            return
    if _AFFIRMED.search(claim):
        yield _AFFIRMED.sub(r"\1 not", claim, count=1)
