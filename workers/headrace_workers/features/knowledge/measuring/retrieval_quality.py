"""Questions with known right documents: the results of each way of ranking, and their relevance. Pure.

A right answer is a document, by its name, or a section of one: `docs/guide.md#Install`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Final

from headrace_workers.features.knowledge.chunking import SEPARATOR, Chunk
from headrace_workers.features.knowledge.measuring.ranking import first_right, ndcg, recall, reciprocal_rank

FIRST: Final = 10  # places that count for nDCG, and for being found
DEPTHS: Final = (1, 2, 3, 5, 10, 20, 50)  # of recall@k
MARK: Final = "#"


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question, and what is right: documents or sections of them. `line` from 1."""

    line: int
    question: str
    right: frozenset[str]


@dataclass(frozen=True, slots=True)
class Answered:
    """The results of each leg for a question, best first, as keys that can be compared with the right answers.

    `relevance` are the cosines of the passages that would be taken: of right ones and of wrong ones.
    """

    asked: LabelledQuestion
    rankings: Mapping[str, Sequence[str]]
    right: Sequence[float]
    wrong: Sequence[float]


@dataclass(frozen=True, slots=True)
class Quality:
    """The quality of a leg's ranking, as means over the questions. `recall` is by depth, nDCG that of the first ten."""

    leg: str
    recall: Mapping[int, float]
    ndcg: float
    mrr: float


@dataclass(frozen=True, slots=True)
class Floor:
    """The effect of a relevance floor: the share of right passages that it keeps, and of wrong ones that it drops.

    `answered` is the share of questions of which a right passage clears it.
    """

    floor: float
    kept: float | None
    dropped: float | None
    answered: float


def key_of(chunk: Chunk, right: Collection[str]) -> str:
    """Return the right section or document that the passage belongs to.

    Any other passage counts as its section if the right answers are sections, else as its document.
    """
    for each in sorted(right, key=lambda name: MARK not in name):
        if belongs(chunk.document, chunk.section, each):
            return each
    return f"{chunk.document}{MARK}{chunk.section}" if any(MARK in each for each in right) else chunk.document


def belongs(document: str, section: str, wanted: str) -> bool:
    """Return True if a section of a document is the wanted one, or within it.

    A section is named by its whole path (`Guide > Install`) or by the end of it (`Install`), in any case.
    """
    if document == wanted:
        return True
    name, mark, part = wanted.rpartition(MARK)
    if not mark or document != name:
        return False
    path, sought = _steps(section), _steps(part)
    return any(path[start : start + len(sought)] == sought for start in range(len(path) - len(sought) + 1))


def qualities(answered: Sequence[Answered]) -> list[Quality]:
    """Return the quality of each leg, in their order."""
    if not answered:
        raise ValueError("there are no questions: nothing can be measured")
    return [
        Quality(
            leg,
            {k: mean(recall(each.rankings[leg], each.asked.right, k) for each in answered) for k in DEPTHS},
            mean(ndcg(each.rankings[leg], each.asked.right, FIRST) for each in answered),
            mean(reciprocal_rank(each.rankings[leg], each.asked.right) for each in answered),
        )
        for leg in answered[0].rankings
    ]


def missed(answered: Sequence[Answered], leg: str) -> list[Answered]:
    """Return the questions without a right answer among the first ten of a leg."""
    return [each for each in answered if (place(each, leg) or FIRST + 1) > FIRST]


def place(answered: Answered, leg: str) -> int | None:
    """Return the place, from 1, of the first right passage of a leg, or None."""
    return first_right(answered.rankings[leg], answered.asked.right)


def floors(answered: Sequence[Answered], steps: Sequence[float]) -> list[Floor]:
    """Return the effect of each floor."""
    right = [value for each in answered for value in each.right]
    wrong = [value for each in answered for value in each.wrong]
    return [
        Floor(
            floor,
            _share([value >= floor for value in right]),
            _share([value < floor for value in wrong]),
            mean(any(value >= floor for value in each.right) for each in answered),
        )
        for floor in steps
    ]


def _steps(path: str) -> list[str]:
    return [step.strip().casefold() for step in path.split(SEPARATOR.strip())]


def _share(flags: Sequence[bool]) -> float | None:
    return mean(flags) if flags else None
