"""P(correct) as a logistic curve in a score: Platt 1999, "Probabilistic outputs for support vector machines".

Labels are pulled inwards, to (n + 1)/(n + 2) and 1/(n + 2) of their kind, so that scores that part right from wrong
without an error have a curve, too. (The curve of the cache's threshold has a prior for similarities about 0.85, and a
bound.)
"""

from typing import Final

import numpy as np

from headrace_workers.features.quality.clusters import Floats

_STEPS: Final = 100
_HALVINGS: Final = 40
_SETTLED: Final = 1e-10


def logistic(scores: Floats, correct: Floats, weights: Floats) -> tuple[float, float]:
    """Return intercept and slope of the log-odds. Neither the scores nor the labels (1 or 0) are all the same."""
    middle, size = float(scores.mean()), float(scores.std())
    design = np.stack([np.ones_like(scores), (scores - middle) / size], axis=1)
    right, wrong = float(correct.sum()), float(len(correct) - correct.sum())
    targets = np.where(correct > 0, (right + 1) / (right + 2), 1 / (wrong + 2))
    weights = weights / weights.sum()

    def loss(at: Floats) -> float:
        log_odds = design @ at
        return float(weights @ (np.logaddexp(0.0, log_odds) - targets * log_odds))

    at = np.zeros(2)
    for _ in range(_STEPS):  # Newton's; halved where it would go beyond the valley
        p = 1 / (1 + np.exp(-design @ at))
        curvature = (design * (weights * p * (1 - p))[:, None]).T @ design + 1e-12 * np.eye(2)
        step = np.linalg.solve(curvature, design.T @ (weights * (targets - p)))
        share = 1.0
        for _ in range(_HALVINGS):
            if loss(at + share * step) <= loss(at):
                break
            share /= 2
        at = at + share * step
        if np.abs(share * step).max() < _SETTLED:
            break
    slope = float(at[1]) / size
    return float(at[0]) - slope * middle, slope
