"""Calibration of decisions: one temperature that makes probabilities as likely as they say, fitted on labelled inputs.

A question has its own from OWN labels on. With fewer, from SHARED on, it has that of all labels of its model; with
fewer still it has none. What is reported of a temperature was measured on rows that it was not fitted on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.decisions.temperatures import tempered

OWN: Final = 100
SHARED: Final = 50

_FOLDS: Final = 5
_BINS: Final = 10
_DRAWS: Final = 1_000
_LEAST, _MOST = math.log(0.05), math.log(20.0)  # of a temperature

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """A labelled input: the probabilities that the model gave to the labels, and the place of the right one."""

    probabilities: tuple[float, ...]
    right: int


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """The expected calibration error of the likeliest label, with a bootstrap interval at 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What a question came to: its temperature, None without enough labels, and its errors before and after."""

    labels: int
    temperature: float | None = None
    shared: bool = False
    before: CalibrationError | None = None
    after: CalibrationError | None = None


def calibrate(questions: Mapping[str, Sequence[Row]], seed: int = 0) -> dict[str, Calibrated]:
    """Return for each question, by its digest, how it is calibrated by these rows."""
    everything = [row for rows in questions.values() for row in rows]
    found: dict[str, Calibrated] = {}
    for digest, rows in questions.items():
        if len(rows) < SHARED:
            found[digest] = Calibrated(len(rows))
            continue
        shared = len(rows) < OWN
        others = [row for row in everything if row not in rows] if shared else []
        after = _held_out(rows, others, seed)
        found[digest] = Calibrated(
            len(rows), fit(everything if shared else rows), shared, error_of(rows, seed), error_of(after, seed)
        )
    return found


def _held_out(rows: Sequence[Row], others: Sequence[Row], seed: int) -> list[Row]:
    """Return the rows, each at a temperature that was fitted without it."""
    order = np.random.default_rng(seed).permutation(len(rows))
    after: list[Row] = []
    for fold in range(_FOLDS):
        held = {int(index) for index in order[fold::_FOLDS]}
        temperature = fit([*others, *(row for index, row in enumerate(rows) if index not in held)])
        after += [Row(tempered(rows[index].probabilities, temperature), rows[index].right) for index in sorted(held)]
    return after


def fit(rows: Sequence[Row]) -> float:
    """Return the temperature at which the right labels are likeliest, between 0.05 and 20."""
    golden = (math.sqrt(5) - 1) / 2
    low, high = _LEAST, _MOST
    logs = [np.log(np.maximum(np.array(row.probabilities), 1e-30)) for row in rows]
    rights = [row.right for row in rows]

    def loss(log_temperature: float) -> float:
        total = 0.0
        for log_shares, right in zip(logs, rights, strict=True):
            scaled = log_shares / math.exp(log_temperature)
            total += float(np.logaddexp.reduce(scaled)) - float(scaled[right])
        return total

    for _ in range(30):  # the loss has one valley
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def error_of(rows: Sequence[Row], seed: int = 0) -> CalibrationError:
    """Return the expected calibration error of these rows, over ten bins of equal width."""
    sure = np.array([max(row.probabilities) for row in rows])
    hit = np.array([float(row.probabilities[row.right] == max(row.probabilities)) for row in rows])
    draws = np.random.default_rng(seed).integers(0, len(rows), (_DRAWS, len(rows)))
    drawn = np.array([_error(sure[draw], hit[draw]) for draw in draws])
    low, high = np.quantile(drawn, (0.025, 0.975))
    return CalibrationError(_error(sure, hit), float(low), float(high))


def _error(sure: Floats, hit: Floats) -> float:
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, sure - hit, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(sure))
