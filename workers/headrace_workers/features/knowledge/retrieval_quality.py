"""The quality of retrieval: questions with known right documents, asked of a base, and measures of each ranking."""

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Final

from headrace_workers.features.knowledge.chunking import SEPARATOR, Chunk
from headrace_workers.features.knowledge.passages import VECTORS, WORDS, Passages
from headrace_workers.features.knowledge.retrieval import relevance_of


def ndcg(ranking: Sequence[str], right: Collection[str], k: int = 10) -> float:
    """Return nDCG from 0 to 1: right answers count more the earlier they come; repetitions count nothing."""
    gained = sum(1.0 / math.log2(index + 2) for index, text in enumerate(_once(ranking)[:k]) if text in right)
    return gained / sum(1.0 / math.log2(index + 2) for index in range(min(k, len(set(right)))))


def recall(ranking: Sequence[str], right: Collection[str], k: int = 10) -> float:
    """Return the share of right answers that are among the first k."""
    return len(set(_once(ranking)[:k]) & set(right)) / len(set(right))


def reciprocal_rank(ranking: Sequence[str], right: Collection[str]) -> float:
    """Return 1 / the place of the first right answer; 0 without one."""
    place = first_right(ranking, right)
    return 0.0 if place is None else 1.0 / place


def first_right(ranking: Sequence[str], right: Collection[str]) -> int | None:
    """Return the place, from 1, of the first right answer, or None; a repetition takes no place."""
    return next((index for index, text in enumerate(_once(ranking), start=1) if text in right), None)


def _once(ranking: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(ranking))


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
    for text in sorted(right, key=lambda name: MARK not in name):
        if belongs(chunk.document, chunk.section, text):
            return text
    return f"{chunk.document}{MARK}{chunk.section}" if any(MARK in text for text in right) else chunk.document


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
    return [
        Quality(
            leg,
            {k: mean(recall(item.rankings[leg], item.asked.right, k) for item in answered) for k in DEPTHS},
            mean(ndcg(item.rankings[leg], item.asked.right, FIRST) for item in answered),
            mean(reciprocal_rank(item.rankings[leg], item.asked.right) for item in answered),
        )
        for leg in answered[0].rankings
    ]


def missed(answered: Sequence[Answered], leg: str) -> list[Answered]:
    """Return the questions without a right answer among the first ten of a leg."""
    return [item for item in answered if (place(item, leg) or FIRST + 1) > FIRST]


def place(answered: Answered, leg: str) -> int | None:
    """Return the place, from 1, of the first right passage of a leg, or None."""
    return first_right(answered.rankings[leg], answered.asked.right)


def floors(answered: Sequence[Answered], steps: Sequence[float]) -> list[Floor]:
    """Return the effect of each floor."""
    right = [value for item in answered for value in item.right]
    wrong = [value for item in answered for value in item.wrong]
    return [
        Floor(
            floor,
            _share([value >= floor for value in right]),
            _share([value < floor for value in wrong]),
            mean(any(value >= floor for value in item.right) for item in answered),
        )
        for floor in steps
    ]


def _steps(path: str) -> list[str]:
    return [step.strip().casefold() for step in path.split(SEPARATOR.strip())]


def _share(flags: Sequence[bool]) -> float | None:
    return mean(flags) if flags else None


FUSED: Final = "fused"
LEGS: Final = (WORDS, VECTORS, FUSED)
_DEPTH: Final = 200  # passages of each ranking: enough for fifty documents, most times


class Contents:
    """The documents and sections of a base: names in a file are checked before any question is asked."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._sections: dict[str, set[str]] = {}
        for chunk in chunks:
            self._sections.setdefault(chunk.document, set()).add(chunk.section)

    def unknown(self, right: str) -> str | None:
        """Return why this document or section is not there, or None."""
        if right in self._sections:
            return None
        name, mark, part = right.rpartition(MARK)
        sections = self._sections.get(name if mark else right)
        if sections is None:
            return f"the base has no document {name if mark else right!r}: `headrace knowledge list` names them"
        if any(belongs(name, section, right) for section in sections):
            return None
        has = ", ".join(repr(section) for section in sorted(filter(None, sections))[:5]) or "none"
        return f"{name!r} has no section {part!r}; it has {has}"


def answer(
    questions: Sequence[LabelledQuestion], base: Passages, advance: Callable[[int], None] = lambda _: None
) -> tuple[list[Answered], list[float]]:
    """Return the results of each way of ranking, and the seconds of each search for the first ten, embedding
    included.
    """
    answered, seconds = [], []
    for question in questions:
        begun = time.perf_counter()
        hits = base.search(question.question, FIRST)
        seconds.append(time.perf_counter() - begun)
        legs = base.legs(question.question, _DEPTH)
        rankings = {
            leg: [key_of(base.chunk(id_), question.right) for id_, _ in found.found] for leg, found in legs.items()
        }
        rankings[FUSED] = [key_of(hit.chunk, question.right) for hit in base.search(question.question, _DEPTH)]
        relevance = [(key_of(hit.chunk, question.right) in question.right, relevance_of(hit)) for hit in hits]
        answered.append(
            Answered(
                question,
                {leg: rankings[leg] for leg in LEGS},
                [value for is_right, value in relevance if is_right],
                [value for is_right, value in relevance if not is_right],
            )
        )
        advance(1)
    return answered, seconds
