"""Calibration of decisions: a temperature and a bias of each label, fitted on labelled inputs. A question has its own
from OWN labels on, and the temperature of all labels of its model from SHARED on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.decisions.temperatures import LEAST, Calibration, tempered
from headrace_workers.stats.temperature import fit_temperature

OWN: Final = 100
SHARED: Final = 50

_FOLDS: Final = 5
_BINS: Final = 10
_DRAWS: Final = 1_000
_LOWEST, _HIGHEST = 0.05, 20.0  # temperatures
_NO_LABEL: Final = -1e9  # a logarithm

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
    """Result for one question: its calibration, None without enough labels or `at_chance`.

    Errors and accuracies (shares of right answers) are those before and after. `largest` is the share of the label that
    most rows have.
    """

    labels: int
    calibration: Calibration | None = None
    shared: bool = False
    before: CalibrationError | None = None
    after: CalibrationError | None = None
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    largest: float | None = None
    at_chance: bool = False


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
        after, use_bias = _held_out(rows, others, seed, biased=False), False
        if not shared and _gains(biased := _held_out(rows, [], seed, biased=True), after):
            after, use_bias = biased, True
        at_chance = not _says_more_than_shares(rows, after, seed)
        calibration = Calibration(fit(everything if shared else rows)) if not use_bias else fit_bias(rows)
        places = [row.right for row in rows]
        found[digest] = Calibrated(
            len(rows),
            None if at_chance else calibration,
            shared,
            error_of(rows, seed),
            error_of(after, seed),
            _accuracy(rows),
            _accuracy(after),
            max(map(places.count, set(places))) / len(rows),
            at_chance,
        )
    return found


def _folds(count: int, seed: int) -> list[list[int]]:
    """Return the places of the rows of each fold, in the order of the rows."""
    order = np.random.default_rng(seed).permutation(count)
    return [sorted(int(place) for place in order[fold::_FOLDS]) for fold in range(_FOLDS)]


def _held_out(rows: Sequence[Row], others: Sequence[Row], seed: int, *, biased: bool) -> list[Row]:
    """Return the rows in their order, each calibrated by what was fitted without it."""
    after: dict[int, Row] = {}
    for held in _folds(len(rows), seed):
        rest = [*others, *(row for place, row in enumerate(rows) if place not in set(held))]
        calibration = fit_bias(rest) if biased else Calibration(fit(rest))
        for place in held:
            after[place] = Row(
                tempered(rows[place].probabilities, calibration.temperature, calibration.bias), rows[place].right
            )
    return [after[place] for place in range(len(rows))]


def _gains(biased: Sequence[Row], plain: Sequence[Row]) -> bool:
    """Return True if held-out rows are likelier with a bias, and no fewer of them are right."""
    likelier = _losses(biased).sum() < _losses(plain).sum()
    return bool(likelier) and _accuracy(biased) >= _accuracy(plain)


def _says_more_than_shares(rows: Sequence[Row], after: Sequence[Row], seed: int) -> bool:
    """Return True if the right labels are likelier by the calibrated probabilities than by the shares of the labels
    among other rows, by more than one standard error.
    """
    labels = len(rows[0].probabilities)
    by_shares = np.zeros(len(rows))
    for held in _folds(len(rows), seed):
        rest = [row.right for place, row in enumerate(rows) if place not in set(held)]
        shares = (np.bincount(rest, minlength=labels) + 1) / (len(rest) + labels)
        by_shares[held] = [-math.log(shares[rows[place].right]) for place in held]
    gains = by_shares - _losses(after)
    return float(gains.mean()) > float(gains.std()) / math.sqrt(len(rows))


def _losses(rows: Sequence[Row]) -> Floats:
    return np.array([-math.log(max(row.probabilities[row.right], LEAST)) for row in rows])


def _accuracy(rows: Sequence[Row]) -> float:
    return sum(row.probabilities[row.right] == max(row.probabilities) for row in rows) / len(rows)


def fit(rows: Sequence[Row]) -> float:
    """Return the temperature at which the right labels are likeliest, between 0.05 and 20."""
    logs = np.full((len(rows), max(len(row.probabilities) for row in rows)), _NO_LABEL)
    for place, row in enumerate(rows):  # of questions that differ in their number of labels
        logs[place, : len(row.probabilities)] = _logs(row.probabilities)
    return fit_temperature(logs, np.array([row.right for row in rows]), _LOWEST, _HIGHEST)[0]


def fit_bias(rows: Sequence[Row]) -> Calibration:
    """Return the temperature and the bias of each label at which the right labels are likeliest."""
    logs = _logs([row.probabilities for row in rows])
    right = np.array([row.right for row in rows])
    temperature, bias = fit_temperature(logs, right, _LOWEST, _HIGHEST, biased=True)
    return Calibration(temperature, tuple(bias.tolist()))


def _logs(probabilities: object) -> Floats:
    return np.asarray(np.log(np.maximum(np.array(probabilities), LEAST)))


def without_labels(said: Sequence[Sequence[float]]) -> Calibration:
    """Return the bias that makes all labels of a choice as likely for texts without content, of which the model gave
    these probabilities: contextual calibration (Zhao et al. 2021, arXiv 2102.09690).
    """
    means = _logs(np.array(said).mean(axis=0))
    return Calibration(1.0, tuple(float(item) for item in means.mean() - means), labelled=False)


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
