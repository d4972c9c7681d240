"""Asks a knowledge base the questions whose right documents are known."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from headrace_workers.features.knowledge.chunking import Chunk
from headrace_workers.features.knowledge.measuring.retrieval_quality import (
    FIRST,
    MARK,
    Answered,
    LabelledQuestion,
    belongs,
    key_of,
)
from headrace_workers.features.knowledge.passages import VECTORS, WORDS, Passages
from headrace_workers.features.knowledge.retrieval import relevance_of

FUSED: Final = "fused"
LEGS: Final = (WORDS, VECTORS, FUSED)
_DEPTH: Final = 200  # passages of each ranking: enough for fifty documents, most times


class Contents:
    """The documents and sections of a base: names in a file are checked before any question is asked."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._sections: dict[str, set[str]] = {}
        for each in chunks:
            self._sections.setdefault(each.document, set()).add(each.section)

    def unknown(self, right: str) -> str | None:
        """Return why this document or section is not there, or None."""
        if right in self._sections:
            return None
        name, mark, part = right.rpartition(MARK)
        sections = self._sections.get(name if mark else right)
        if sections is None:
            return f"the base has no document {name if mark else right!r}: `headrace knowledge show` names them"
        if any(belongs(name, section, right) for section in sections):
            return None
        has = ", ".join(repr(each) for each in sorted(filter(None, sections))[:5]) or "none"
        return f"{name!r} has no section {part!r}; it has {has}"


def answer(
    questions: Sequence[LabelledQuestion], base: Passages, advance: Callable[[int], None] = lambda _: None
) -> tuple[list[Answered], list[float]]:
    """Return the results of each way of ranking, and the seconds of each search for the first ten, embedding
    included.
    """
    answered, seconds = [], []
    for each in questions:
        begun = time.perf_counter()
        hits = base.search(each.question, FIRST)
        seconds.append(time.perf_counter() - begun)
        legs = base.legs(each.question, _DEPTH)
        rankings = {leg: [key_of(base.chunk(id_), each.right) for id_, _ in found.found] for leg, found in legs.items()}
        rankings[FUSED] = [key_of(hit.chunk, each.right) for hit in base.search(each.question, _DEPTH)]
        relevance = [(key_of(hit.chunk, each.right) in each.right, relevance_of(hit)) for hit in hits]
        answered.append(
            Answered(
                each,
                {leg: rankings[leg] for leg in LEGS},
                [value for is_right, value in relevance if is_right],
                [value for is_right, value in relevance if not is_right],
            )
        )
        advance(1)
    return answered, seconds
