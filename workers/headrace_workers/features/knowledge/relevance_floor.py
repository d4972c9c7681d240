"""The relevance floor that fits a base: few questions about other things reach it. A Gumbel distribution lies through
the quartiles of the nearest cosines of 160 everyday questions (lists/everyday_questions.txt).
"""

import math
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.models.embedders.embedder import Embedder

Floats = NDArray[np.float32]

LEAST: Final = 0.35  # whatever the base holds
LEAST_IN_SMALL: Final = 0.28  # the nearest of few passages is less near, of right ones, too
SMALL: Final = 300  # passages
LET_THROUGH: Final = 0.03  # of the everyday questions, less than the 5 % that are allowed: others ask otherwise
_GROWN: Final = 1.1  # times as many passages, or the inverse of it, and the floor is read again
_QUARTILES: Final = (0.25, 0.75)


def everyday_questions() -> list[str]:
    """Return questions about everyday matters, which hardly any base answers."""
    text = files("headrace_workers.features.knowledge").joinpath("lists", "everyday_questions.txt")
    return text.read_text(encoding="utf-8").splitlines()


def fitting_floor(nearest: Sequence[float] | Floats, passages: int, let_through: float = LET_THROUGH) -> float:
    """Return the floor that this share of unrelated questions reaches, from the cosine of each to its nearest passage.

    It is at least `LEAST`, or `LEAST_IN_SMALL` for a base of fewer than `SMALL` passages, and at most 1.
    """
    low, high = (float(item) for item in np.quantile(nearest, _QUARTILES))
    lowest, highest = (-math.log(-math.log(quartile)) for quartile in _QUARTILES)
    scale = (high - low) / (highest - lowest)
    floor = low - scale * lowest - scale * math.log(-math.log(1 - let_through))
    return round(min(1.0, max(LEAST if passages >= SMALL else LEAST_IN_SMALL, floor)), 3)


class FittingFloor:
    """The floor of one base, read when it is first asked for, and again after the base has grown or shrunk by a tenth.

    Thread-safe: two threads may both read it, to the same end.
    """

    def __init__(self) -> None:
        self._read: tuple[int, float] | None = None  # of so many passages

    def of(self, passages: int, nearest: Callable[[], Floats]) -> float:
        """Return the floor of a base of so many passages; `nearest` gives the everyday questions' cosines."""
        read = self._read
        if read is None or not read[0] / _GROWN <= passages <= read[0] * _GROWN:
            read = self._read = (passages, fitting_floor(nearest(), passages))
        return read[1]


def embedded_questions(embedder: Embedder) -> Floats:
    """Return the vectors of the everyday questions, (questions, dimensions)."""
    return embedder.embed(everyday_questions())
