"""Bounds that are watched: exact values, monotony, and worlds whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.workers.stats.worlds import peeked_misses, watched_misses

from headrace_workers.stats.binomial import clopper_pearson_lower, clopper_pearson_upper
from headrace_workers.stats.error_bounds import (
    LOWER_BETS,
    LOWER_WEIGHTS,
    UPPER_BETS,
    UPPER_WEIGHTS,
    log_value,
    watched_lower,
    watched_upper,
)

COUNTS = st.tuples(st.integers(0, 30), st.integers(0, 3_000))


@pytest.mark.parametrize(
    ("wrong", "strata", "enough"), [(0, 1, 333), (0, 4, 352), (1, 1, 718), (3, 1, 1_165), (10, 1, 2_327)]
)
def test_one_per_cent_is_shown_by_known_numbers_of_audits(wrong: int, strata: int, enough: int) -> None:
    def upper(audits: int) -> float:
        return watched_upper([1 / strata] * strata, [wrong] + [0] * (strata - 1), [audits // strata] * strata, 0.05)

    assert upper(math.ceil(enough * 1.005)) <= 0.01 < upper(math.floor(enough * 0.99))


def test_the_mixture_is_the_sum_that_its_page_says() -> None:
    direct = sum(w * (1 - b) ** 2 / (1 - b * 0.03) ** 70 for b, w in zip(UPPER_BETS, UPPER_WEIGHTS, strict=True))
    said = log_value(np.array([0.03]), np.array([2.0]), np.array([70.0]), UPPER_BETS, UPPER_WEIGHTS)
    assert said[0] == pytest.approx(math.log(direct))
    for bets, weights in ((UPPER_BETS, UPPER_WEIGHTS), (LOWER_BETS, LOWER_WEIGHTS)):
        assert weights.sum() == pytest.approx(1.0)
        assert ((bets > 0) & (bets <= 1)).all()
        assert log_value(np.array([0.3]), np.zeros(1), np.zeros(1), bets, weights)[0] == pytest.approx(0.0)


@pytest.mark.parametrize("rate", [0.01, 0.2])
def test_no_bet_gains_on_average(rate: float) -> None:
    for bets in (UPPER_BETS, 1 - 1 / (1 - LOWER_BETS)):  # seen from the wrong answers, the lower bets are negative
        after_wrong, after_clean = (1 - bets) / (1 - bets * rate), 1 / (1 - bets * rate)
        assert rate * after_wrong + (1 - rate) * after_clean == pytest.approx(np.ones(len(bets)))


@pytest.mark.integration
@settings(max_examples=25, deadline=None)
@given(strata=st.lists(COUNTS, min_size=1, max_size=4), which=st.integers(0, 3), alpha=st.sampled_from([0.01, 0.05]))
def test_more_wrong_raises_the_bounds_and_more_clean_lowers_them(
    strata: list[tuple[int, int]], which: int, alpha: float
) -> None:
    shares = [1 / len(strata)] * len(strata)
    wrong, audits = [k for k, _ in strata], [k + n for k, n in strata]
    more = [int(i == which % len(strata)) for i in range(len(strata))]
    one_wrong = [k + m for k, m in zip(wrong, more, strict=True)]
    one_audit = [n + m for n, m in zip(audits, more, strict=True)]
    for bound in (watched_upper, watched_lower):
        now = bound(shares, wrong, audits, alpha)
        assert -1e-9 <= now <= 1 + 1e-9
        assert bound(shares, one_wrong, one_audit, alpha) >= now - 1e-5
        assert bound(shares, wrong, one_audit, alpha) <= now + 1e-5
    assert watched_lower(shares, wrong, audits, alpha) <= watched_upper(shares, wrong, audits, alpha) + 1e-9


@pytest.mark.integration
@settings(max_examples=60, deadline=None)
@given(strata=st.lists(COUNTS, min_size=1, max_size=4), seed=st.integers(0, 2**32 - 1))
def test_the_bound_is_no_smaller_than_any_error_that_is_not_refuted(strata: list[tuple[int, int]], seed: int) -> None:
    chance = np.random.default_rng(seed)
    shares = chance.dirichlet(np.ones(len(strata)))
    wrong, audits = np.array([k for k, _ in strata]), np.array([k + n for k, n in strata])
    rates = (wrong + chance.exponential(3.0, (200, len(strata)))) / (audits + 3.0)
    rates = rates[(rates < 1).all(axis=1)]
    k, n = (np.broadcast_to(item.astype(float), rates.shape) for item in (wrong, audits))
    possible = log_value(rates, k, n, UPPER_BETS, UPPER_WEIGHTS).sum(axis=1) < -math.log(0.05)
    largest = (rates[possible] @ shares).max(initial=0.0)
    assert watched_upper(list(shares), list(wrong), list(audits), 0.05) >= largest - 1e-9


@pytest.mark.integration
@settings(max_examples=40, deadline=None)
@given(wrong=st.integers(0, 40), clean=st.integers(0, 5_000))
def test_a_bound_that_may_be_watched_is_no_tighter_than_that_of_a_single_look(wrong: int, clean: int) -> None:
    audits = wrong + clean
    upper, lower = (bound([1.0], [wrong], [audits], 0.05) for bound in (watched_upper, watched_lower))
    assert clopper_pearson_upper(wrong, audits, 0.05) - 1e-6 <= upper
    assert lower <= clopper_pearson_lower(wrong, audits, 0.05) + 1e-6


def test_a_stratum_without_audits_may_be_all_wrong() -> None:
    assert watched_upper([0.9, 0.1], [0, 0], [100_000, 0], 0.05) == pytest.approx(0.1, abs=1e-3)
    assert watched_lower([0.9, 0.1], [0, 0], [100_000, 0], 0.05) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.integration
@pytest.mark.parametrize("drift", [pytest.param(0.0, marks=pytest.mark.slow), 0.9])
def test_the_bound_is_below_the_truth_in_no_more_than_one_world_of_twenty(drift: float) -> None:
    worlds = 300
    least, most = watched_misses(worlds, 1_200, np.random.default_rng(20), drift)
    assert least <= most <= 0.05 * worlds


def test_clopper_pearson_looked_at_again_and_again_misses_more_often() -> None:
    assert peeked_misses(1_000, 1_000, 25, 0.05, np.random.default_rng(3)) > 150


@pytest.mark.integration
def test_a_good_scope_is_accused_in_no_more_than_one_world_of_twenty() -> None:
    wrong = np.cumsum(np.random.default_rng(5).random((1_000, 600)) < 0.01, axis=1)
    audits = np.broadcast_to(np.arange(1, 601), wrong.shape)
    most = np.searchsorted([watched_lower([1.0], [k], [600], 0.05) > 0.01 for k in range(40)], True)
    assert (wrong[:, -1] >= most).mean() <= 0.05
    accused = 0
    for errors, n in zip(wrong, audits, strict=True):
        value = log_value(np.full(600, 0.99), (n - errors).astype(float), n.astype(float), LOWER_BETS, LOWER_WEIGHTS)
        accused += bool((value > -math.log(0.05)).any())
    assert 0 < accused <= 50
