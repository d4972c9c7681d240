"""Calibration: what is fitted is what people found, and a reliability diagram tells who says too much."""

import numpy as np
import pytest

from headrace_workers.stats.estimates import Undefined
from headrace_workers.stats.reliability import (
    Calibration,
    Reliability,
    calibrate,
    isotonic,
    logistic,
    reliability,
)


def drawn(rows: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, what P(correct) really is at them (always above 0.5), and labels."""
    random = np.random.default_rng(seed)
    scores = random.random(rows)
    true = 0.5 + 0.45 * scores**2
    return scores, true, random.random(rows) < true


def told(found: Reliability | Undefined) -> Reliability:
    assert isinstance(found, Reliability), found
    return found


@pytest.mark.parametrize(("rows", "method"), [(300, "logistic"), (5_000, "isotonic")])
def test_a_fit_takes_the_gap_away(rows, method):
    scores, _, correct = drawn(2 * rows)
    fitted = calibrate(scores[:rows], correct[:rows])
    assert isinstance(fitted, Calibration)
    assert fitted.method == method
    assert (np.diff(fitted.probability(np.linspace(0, 1, 50))) >= 0).all()
    raw = told(reliability(scores[rows:], correct[rows:]))
    after = told(reliability(fitted.probability(scores[rows:]), correct[rows:]))
    assert raw.ece > 2.5 * raw.if_calibrated
    assert after.ece < 2 * after.if_calibrated


@pytest.mark.integration  # scikit-learn takes seconds to load
def test_the_logistic_curve_is_scikit_learns():
    from sklearn.calibration import _sigmoid_calibration  # here: else every process of a run imports it

    scores, _, correct = drawn(400)
    weights = np.where(correct, 1.0, 3.0)
    for moved in (scores, 1_000 * scores - 7):
        slope, offset = _sigmoid_calibration(moved, correct.astype(int))
        assert logistic(moved, correct.astype(float), np.ones(400)) == pytest.approx((-offset, -slope), rel=1e-3)
    assert (
        logistic(scores, correct.astype(float), weights)[0] < logistic(scores, correct.astype(float), np.ones(400))[0]
    )


def test_scores_that_part_right_from_wrong_have_a_curve():
    fitted = calibrate(np.linspace(0, 1, 20), np.arange(20) >= 10)
    assert isinstance(fitted, Calibration)
    low, middle, high = fitted.probability(np.array([0.0, 0.5, 1.0]))
    assert low < 0.1
    assert middle == pytest.approx(0.5)
    assert 0.9 < high < 1.0


def test_a_score_that_falls_is_not_followed():
    scores, _, correct = drawn(400)
    fitted = calibrate(1 - scores, correct)
    assert isinstance(fitted, Calibration)
    assert fitted.probability(np.array([0.1, 0.9])) == pytest.approx([correct.mean()] * 2)


def test_chance_alone_makes_a_gap():
    reliabilities = []
    for seed in range(200):
        _, true, correct = drawn(200, seed)
        reliabilities.append(told(reliability(true, correct)))
    assert np.mean([item.ece for item in reliabilities]) == pytest.approx(
        np.mean([item.if_calibrated for item in reliabilities]), rel=0.1
    )


def test_points_are_shares_with_intervals():
    said = np.array([0.2] * 50 + [0.8] * 50)
    correct = np.array([True] * 10 + [False] * 40 + [True] * 20 + [False] * 30)
    found = told(reliability(said, correct))
    assert [point.said for point in found.points] == pytest.approx([0.2, 0.8])
    assert [point.seen.value for point in found.points] == pytest.approx([0.2, 0.4])
    assert found.ece == pytest.approx(0.2)
    assert found.points[1].seen.interval.holds(0.4)
    assert not found.points[1].seen.interval.holds(0.8)
    weighted = told(reliability(said, correct, np.where(said == 0.2, 0.1, 1.0)))
    assert weighted.ece == pytest.approx(0.4 / 11)


@pytest.mark.parametrize("seed", range(20))
def test_the_isotonic_fit_is_scipys(seed):
    from scipy.optimize import isotonic_regression  # here: else every process of a run imports it

    random = np.random.default_rng(seed)
    values = np.round(random.random(500) + np.linspace(-1, 1, 500) * (seed % 5 - 2) / 2, seed % 3 + 1)
    weights = random.random(500) + 1e-3
    np.testing.assert_allclose(isotonic(values, weights), isotonic_regression(values, weights=weights).x, rtol=1e-12)


def test_isotonic_counts_rows_for_what_they_stand_for():
    scores, _, correct = drawn(20_000)
    random = np.random.default_rng(2)
    probability = np.where(correct, 0.1, 1.0)
    taken = random.random(len(scores)) < probability
    fitted = calibrate(scores[taken], correct[taken], probability[taken])
    assert isinstance(fitted, Calibration)
    assert fitted.method == "isotonic"
    assert fitted.probability(np.array([0.5]))[0] == pytest.approx(0.5 + 0.45 * 0.25, abs=0.06)


def test_what_cannot_be_told_is_told_so():
    assert isinstance(calibrate(np.array([]), np.array([], dtype=bool)), Undefined)
    assert isinstance(calibrate(np.array([0.1, 0.2]), np.array([True, True])), Undefined)
    assert isinstance(reliability(np.array([]), np.array([], dtype=bool)), Undefined)
    for ask in (calibrate, reliability):
        with pytest.raises(ValueError, match="one of both"):
            ask(np.array([0.1]), np.array([True, False]))
