"""The test of a classifier that finds texts which are unlike the rows of its training."""

from dataclasses import dataclass
from math import ceil
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from headrace_workers.models.heads import Bools, Floats

KEPT_ROWS: Final = 1_000  # that a text is compared with
REFUSED: Final = 0.05  # of texts like the rows
_COVARIANCE_ROWS: Final = 20_000  # bounds the memory of a training
_NEIGHBOURS: Final = 5
_SHRINKAGE: Final = 0.1
_LEAST_VARIANCE: Final = 1e-6  # where all rows are the same
_LEAST_DEVIATION: Final = 1e-3
_ROUNDING: Final = 0.01


@dataclass(frozen=True)
class Novelty:
    """A test that finds vectors of length 1 which are unlike the rows of a training, by their Mahalanobis distance from
    the centre and the distance from the nearest rows. `scale` has the mean and the deviation of both, and the
    threshold.
    """

    centre: Floats  # (dimensions,)
    whitening: Floats  # (dimensions, dimensions)
    rows: Floats  # (rows, dimensions)
    scale: Floats  # (5,)

    @classmethod
    def of(cls, rows: Floats, others: Floats, seed: int) -> Self:
        """Return the test made from `rows`, with its threshold from the `others`."""
        drawn = rows[np.random.default_rng(seed).permutation(len(rows))[:_COVARIANCE_ROWS]]
        centre = drawn.mean(axis=0)
        apart = (drawn - centre).astype(np.float64)
        covariance = apart.T @ apart / len(apart)
        variance = max(float(np.trace(covariance)) / len(centre), _LEAST_VARIANCE)
        covariance = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * variance * np.eye(len(centre))
        whitening = np.linalg.inv(np.linalg.cholesky(covariance)).T / np.sqrt(len(centre))
        plain = cls(centre, whitening.astype(np.float32), drawn[:KEPT_ROWS], np.array([0, 1, 0, 1, 0], np.float32))
        distances = plain._distances(others)
        mean, deviation = distances.mean(axis=1), np.maximum(distances.std(axis=1), _LEAST_DEVIATION)
        scores = np.sort(((distances - mean[:, None]) / deviation[:, None]).sum(axis=0))
        # This rank of n rows refuses at most the share of new rows like them (conformal prediction).
        threshold = scores[min(len(scores), ceil((1 - REFUSED) * (len(scores) + 1))) - 1] + _ROUNDING
        scale = np.array([mean[0], deviation[0], mean[1], deviation[1], threshold], np.float32)
        return cls(plain.centre, plain.whitening, plain.rows, scale)

    def foreign(self, vectors: Floats) -> Bools:
        """Return which vectors are unlike the rows."""
        far, away = self._distances(vectors)
        mean, deviation, mean_near, deviation_near, threshold = self.scale
        return np.asarray((far - mean) / deviation + (away - mean_near) / deviation_near > threshold)

    def fits(self, dimensions: int) -> bool:
        """Return whether the arrays belong together and to vectors of so many dimensions."""
        return (
            (self.centre.shape, self.whitening.shape, self.scale.shape)
            == ((dimensions,), (dimensions, dimensions), (5,))
            and self.rows.ndim == 2
            and 0 < len(self.rows) <= KEPT_ROWS
            and self.rows.shape[1] == dimensions
            and bool((self.scale[[1, 3]] > 0).all())
        )

    def _distances(self, vectors: Floats) -> NDArray[np.float32]:
        """Return the distance from the centre and from the nearest rows, (2, vectors)."""
        found = np.empty((2, len(vectors)), np.float32)
        for start in range(0, len(vectors), KEPT_ROWS):
            some = vectors[start : start + KEPT_ROWS]
            found[0, start : start + len(some)] = (((some - self.centre) @ self.whitening) ** 2).sum(axis=1)
            alike = some @ self.rows.T
            nearest = np.partition(alike, -min(_NEIGHBOURS, len(self.rows)), axis=1)[:, -_NEIGHBOURS:]
            found[1, start : start + len(some)] = 1.0 - nearest.mean(axis=1)
        return found
