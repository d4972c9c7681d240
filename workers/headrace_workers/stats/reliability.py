"""The calibration of scores: P(correct) by score, and its distance to what people find."""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from headrace_workers.stats.detection_rates import share
from headrace_workers.stats.estimates import Estimate, Floats, Ids, Undefined, numbered, weights_of
from headrace_workers.stats.minimum import minimum

# P(correct) as a logistic curve in a score: Platt 1999, "Probabilistic outputs for support vector machines".
#
# Labels are pulled inwards, to (n + 1)/(n + 2) and 1/(n + 2) of their kind, so that scores that part right from wrong
# without an error have a curve, too.


def logistic(scores: Floats, correct: Floats, weights: Floats) -> tuple[float, float]:
    """Return intercept and slope of the log-odds. Neither the scores nor the labels (1 or 0) are all the same."""
    middle, size = float(scores.mean()), float(scores.std())
    design = np.stack([np.ones_like(scores), (scores - middle) / size], axis=1)
    right, wrong = float(correct.sum()), float(len(correct) - correct.sum())
    targets = np.where(correct > 0, (right + 1) / (right + 2), 1 / (wrong + 2))
    weights = weights / weights.sum()

    def loss(at: Floats) -> tuple[float, Floats]:
        log_odds = design @ at
        miss = 0.5 * (1 + np.tanh(0.5 * log_odds)) - targets
        return float(weights @ (np.logaddexp(0.0, log_odds) - targets * log_odds)), design.T @ (weights * miss)

    at = minimum(loss, np.zeros(2))
    slope = float(at[1]) / size
    return float(at[0]) - slope * middle, slope


Bools = NDArray[np.bool_]
LEAST_FOR_ISOTONIC: Final = 1_000
BINS: Final = 10


@dataclass(frozen=True, eq=False, slots=True)
class Calibration:
    """P(correct) at some scores, rising with them; between two scores it is on the line."""

    method: Literal["isotonic", "logistic"]
    scores: Floats
    probabilities: Floats

    def probability(self, scores: Floats) -> Floats:
        """Return P(correct) of each score; beyond the scores that were labelled, that of the last one."""
        return np.interp(scores, self.scores, self.probabilities)


@dataclass(frozen=True, slots=True)
class Point:
    """A bin of the diagram: P(correct) in the mean, as it was said, and the share that people found correct."""

    said: float
    seen: Estimate


@dataclass(frozen=True, slots=True)
class Reliability:
    """`ece` is the mean gap between said and seen, over bins with as many rows each, by their weight; in [0, 1].

    `if_calibrated` is what it would be by chance alone, if every P(correct) were true: an ECE near it accuses nobody.
    """

    ece: float
    if_calibrated: float
    points: tuple[Point, ...]


def calibrate(scores: Floats, correct: Bools, probability: Floats | None = None) -> Calibration | Undefined:
    """Return P(correct) by score, from labelled verdicts. `probability` is that with which each was chosen for a label.

    From 1,000 labels on isotonic regression, which takes any rising shape; below, where that learns noise
    (Niculescu-Mizil and Caruana 2005), a logistic curve in the score (`platt`). Where wrong scores are the higher ones,
    none is followed: each says the mean. Raises ValueError where lengths differ.
    """
    if len(scores) != len(correct):
        raise ValueError(f"{len(scores)} scores and {len(correct)} labels: give each verdict one of both")
    weights = weights_of(probability, len(scores))
    if not len(scores):
        return Undefined("there are no labels")
    if correct.all() or not correct.any():
        return Undefined("all labels say the same: nothing tells where verdicts are wrong")
    places, of_row = np.unique(scores, return_inverse=True)
    if len(scores) < LEAST_FOR_ISOTONIC:
        intercept, slope = logistic(scores, correct.astype(np.float64), weights) if len(places) > 1 else (0.0, 0.0)
        if slope <= 0.0:
            return Calibration("logistic", places, np.full(len(places), float(weights @ correct / weights.sum())))
        return Calibration("logistic", places, 1 / (1 + np.exp(-(intercept + slope * places))))
    total = np.bincount(of_row, weights).astype(np.float64)
    share_correct = np.bincount(of_row, weights * correct) / total
    return Calibration("isotonic", places, isotonic(share_correct, total))


def isotonic(values: Floats, weights: Floats) -> Floats:
    """Return the weighted least-squares fit to the values that never falls, by pooling adjacent violators."""
    means: list[float] = []  # of blocks, rising
    masses: list[float] = []
    sizes: list[int] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, mass, size = value, weight, 1
        while means and means[-1] >= mean:
            before = masses.pop()
            mean, mass, size = (means.pop() * before + mean * mass) / (before + mass), before + mass, size + sizes.pop()
        means.append(mean)
        masses.append(mass)
        sizes.append(size)
    return np.repeat(means, sizes)


def reliability(
    said: Floats, correct: Bools, probability: Floats | None = None, clusters: Ids | None = None, level: float = 0.95
) -> Reliability | Undefined:
    """Return P(correct) as `said` beside what people found, on labels that it was **not** fitted to.

    Bins have as many rows each (Nguyen and O'Connor 2015), and equal probabilities stay together; with few labels the
    ECE is above 0 whatever the judge (Kumar, Liang and Ma 2019): see `if_calibrated`. Points have Wilson's intervals.
    """
    rows = len(said)
    if len(correct) != rows:
        raise ValueError(f"{rows} probabilities and {len(correct)} labels: give each verdict one of both")
    if not rows:
        return Undefined("there are no labels")
    weights, groups = weights_of(probability, rows), numbered(clusters, rows)
    edges = np.unique(np.quantile(said, np.arange(1, BINS) / BINS))
    bins = np.searchsorted(edges, said, side="right")
    points, gap, by_chance = [], 0.0, 0.0
    for number in np.unique(bins):
        within = bins == number
        weight = weights[within] / weights[within].sum()
        seen = share(correct[within], None if probability is None else probability[within],
                     groups.of_row[within], level=level)  # fmt: skip
        if isinstance(seen, Undefined):
            continue
        part, expected = float(weights[within].sum() / weights.sum()), float(weight @ said[within])
        variance = float(np.square(weight) @ (said[within] * (1 - said[within])))
        points.append(Point(expected, seen))
        gap += part * abs(seen.value - expected)
        by_chance += part * math.sqrt(2 * variance / math.pi)  # the mean distance of a normal from its middle
    return Reliability(gap, by_chance, tuple(points))
