"""The curve of P(correct), its lower bound, and the threshold that is chosen by it."""

import math
from itertools import pairwise

import numpy as np
import pytest
from tests.slow import slow_after_first
from tests.workers.features.cache.calibration.worlds import CURVES, lives, thresholds, trusting

from headrace_workers.features.cache.calibration.scope_fit import Curve, fit, threshold


def _pairs(count: int, name: str = "logistic", seed: int = 1) -> tuple[list[float], list[bool]]:
    chance = np.random.default_rng(seed)
    similarities = chance.uniform(0.6, 1.0, count)
    return list(similarities), list(chance.random(count) < CURVES[name](similarities))


def test_the_curve_finds_a_logistic_truth() -> None:
    curve = fit(*_pairs(20_000))
    for similarity in (0.76, 0.8, 0.86):
        truth = float(CURVES["logistic"](np.array([similarity]))[0])
        assert curve.correct(similarity) == pytest.approx(truth, abs=0.03)
        assert truth - 0.06 < curve.lower(similarity) < curve.correct(similarity)


def test_the_lower_bound_is_below_the_truth_in_nineteen_worlds_of_twenty() -> None:
    covered = np.zeros(3)
    places = np.array([0.76, 0.84, 0.9])
    truth = CURVES["logistic"](places)
    for seed in range(200):
        curve = fit(*_pairs(150, seed=seed))
        covered += np.array([curve.lower(float(s)) for s in places]) <= truth
    assert (covered >= 0.93 * 200).all()


def test_more_labels_raise_the_lower_bound() -> None:
    bounds = [fit(*_pairs(count)).lower(0.9) for count in (0, 20, 400, 6_400)]
    assert all(fewer < more for fewer, more in pairwise(bounds))


def test_pairs_that_a_line_parts_give_a_finite_curve() -> None:
    """Without a prior its slope would be infinite."""
    curve = fit([0.7] * 50 + [0.9] * 50, [False] * 50 + [True] * 50)
    assert np.isfinite(curve.coefficients).all()
    assert curve.correct(0.9) > 0.95 > 0.05 > curve.correct(0.7)


@pytest.mark.parametrize("least", [-1.0, 0.0, 0.3])
def test_similarities_far_from_the_centre_have_a_curve(least: float) -> None:
    for seed in range(20):
        chance = np.random.default_rng(seed)
        similarities = chance.uniform(least, 1.0, 1_000)
        middle = (least + 1.0) / 2.0
        truth = 1.0 / (1.0 + np.exp(-10.0 * (similarities - middle)))
        curve = fit(list(similarities), list(chance.random(1_000) < truth))
        assert curve.correct(middle) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("pairs", "chosen"), [(0, None), (332, None), (333, 0.95)])
def test_without_enough_labels_there_is_no_threshold(pairs: int, chosen: float | None) -> None:
    sure = Curve(0.05, np.array([10.0, 0.0]), np.zeros((2, 2)), np.full(pairs, 0.95), np.zeros(pairs))
    assert threshold(sure, 0.01) == chosen


def test_the_threshold_is_where_both_bounds_hold() -> None:
    similarities, correct = _pairs(20_000)
    curve = fit(similarities, correct)
    chosen = threshold(curve, 0.01)
    assert chosen is not None
    assert chosen in similarities
    assert curve.lower(chosen) >= 0.99
    loose = threshold(curve, 0.05)
    assert loose is not None
    assert loose < chosen


def test_equal_similarities_are_served_together_or_not_at_all() -> None:
    below = [0.6 + i * 1e-4 for i in range(500)]
    curve = fit([0.95] * 500 + below, [True] * 400 + [False] * 100 + [False] * 500)
    assert threshold(curve, 0.3) == 0.95
    assert threshold(curve, 0.1) is None


@pytest.mark.integration
@pytest.mark.parametrize("name", slow_after_first(CURVES))
def test_the_chosen_threshold_serves_at_most_one_per_cent_wrong(name: str) -> None:
    misses, _, _ = thresholds(name, 60, 3_000, np.random.default_rng(11))
    assert misses <= 0.05 * 60


def test_a_curve_that_can_be_followed_serves_most_of_what_could_be() -> None:
    """Caution that served nothing would pass the test above."""
    _, served, possible = thresholds("logistic", 20, 8_000, np.random.default_rng(12))
    assert served > 0.8 * possible


@pytest.mark.slow
@pytest.mark.parametrize("name", ["logistic", "right from 0.75 on", "step", "up to 98.5 %"])
def test_a_scope_that_explores_keeps_its_promises(name: str) -> None:
    missed, broken, _, _ = lives(name, 40, 4_000, np.random.default_rng(21))
    assert max(missed, broken) <= 0.05 * 40


@pytest.mark.integration
def test_exploring_lowers_a_threshold_that_was_too_cautious() -> None:
    _, broken, least, some = lives("right from 0.75 on", 10, 4_000, np.random.default_rng(22))
    assert (broken, some) == (0, 10)
    assert 0.72 < least < 0.78


def test_a_logistic_curve_alone_would_not_do() -> None:
    misses, _, _ = thresholds("up to 97 %", 10, 3_000, np.random.default_rng(13), trusting)
    assert misses == 10


def test_pairs_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="each pair has one of both"):
        fit([0.9], [])
    with pytest.raises(ValueError, match="no finite number"):
        fit([math.nan], [True])
