"""Pairs of questions with known labels (does one answer do for both?), and the cache's decision about each. Pure.

The caller passes in the embedder and the guards of a recall worker.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headrace_workers.features.cache.guards.guard_protocol import Refusal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AT_ONCE: Final = 256  # texts that are embedded at once


@dataclass(frozen=True, slots=True)
class Pair:
    """`other` was answered, and `question` is asked: `same` says whether that answer is right for it. `line` from 1."""

    line: int
    question: str
    other: str
    same: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair with its cosine, and the guard that says that the questions are not the same, if one does."""

    pair: Pair
    similarity: float
    refusal: Refusal | None

    def served(self, threshold: float, *, guarded: bool) -> bool:
        """Return True if the answer would be served, from a cosine on, and with the guards or without."""
        return self.similarity >= threshold and not (guarded and self.refusal is not None)


def judge(
    pairs: Sequence[Pair],
    embed: "Callable[[list[str]], NDArray[np.float32]]",
    refuse: Callable[[str, str], Refusal | None],
    advance: Callable[[int], None] = lambda _: None,
) -> list[Judged]:
    """Return each pair with its decision.

    `refuse` gets (the question, the other); `advance` gets the number of embedded texts.
    """
    import numpy as np

    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.question, pair.other)))
    blocks = []
    for start in range(0, len(texts), _AT_ONCE):
        blocks.append(embed(texts[start : start + _AT_ONCE]))
        advance(len(blocks[-1]))
    vectors = np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32)
    place = {text: number for number, text in enumerate(texts)}
    return [
        Judged(
            pair,
            min(1.0, float(vectors[place[pair.question]] @ vectors[place[pair.other]])),
            refuse(pair.question, pair.other),
        )
        for pair in pairs
    ]


def clusters(pairs: Sequence[Pair]) -> list[int]:
    """Return the cluster of each pair: pairs that share a question, directly or through others, are one."""
    above: dict[str, str] = {}

    def root(text: str) -> str:
        above.setdefault(text, text)
        while above[text] != text:
            above[text] = above[above[text]]
            text = above[text]
        return text

    for pair in pairs:
        above[root(pair.question)] = root(pair.other)
    numbers: dict[str, int] = {}
    return [numbers.setdefault(root(pair.question), len(numbers)) for pair in pairs]
