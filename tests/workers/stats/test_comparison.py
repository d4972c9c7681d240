"""Comparisons: the method by what the data bear, values of SciPy, intervals that hold the truth where items are few."""

from itertools import product

import numpy as np
import pytest

from headrace_workers.stats.comparison import Comparison, compare, holm, wild
from headrace_workers.stats.estimates import Undefined


def told(found: Comparison | Undefined) -> Comparison:
    assert isinstance(found, Comparison), found
    return found


def drawn(seed: int, better: float, worse: float, clusters: int, size: int = 1, alike: float = 0.3) -> Comparison:
    """Pass or fail of both variants on items: only B passes, only A, or there is no difference."""
    random = np.random.default_rng((seed, clusters, size))
    groups, shares = np.arange(clusters * size) // size, np.array([better, worse, 1 - better - worse])
    each = np.broadcast_to(shares, (clusters, 3))
    if size > 1:
        each = random.dirichlet((shares + 1e-9) * (1 / alike - 1), clusters)
    at = random.random(len(groups))
    only_b = at < each[groups, 0]
    only_a = ~only_b & (at < each[groups, :2].sum(axis=1))
    return told(compare(only_a.astype(float), only_b.astype(float), groups if size > 1 else None))


def test_many_items_are_a_paired_t():
    from scipy import stats

    random = np.random.default_rng(1)
    a = random.random(150)
    b = np.clip(a + random.normal(0.05, 0.2, 150), 0, 1)
    comparison, theirs = told(compare(a, b)), stats.ttest_rel(b, a)
    interval = theirs.confidence_interval(0.95)
    assert (comparison.interval.low, comparison.interval.high) == pytest.approx((interval.low, interval.high))
    assert comparison.p == pytest.approx(theirs.pvalue)
    assert (comparison.items, comparison.clusters, comparison.interval.method) == (150, 150, "clustered t")


def test_items_that_are_repeated_as_clusters_tell_nothing_new():
    from scipy import stats

    once = np.random.default_rng(2).random(50)
    comparison = told(compare(np.zeros(200), np.repeat(once, 4), np.repeat(np.arange(50), 4)))
    theirs = stats.t.interval(0.95, 49, once.mean(), stats.sem(once))
    assert (comparison.interval.low, comparison.interval.high) == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("arguments", "method"),
    [
        ({"better": 0.3, "worse": 0.2, "clusters": 99}, "Dirichlet"),
        ({"better": 0.3, "worse": 0.2, "clusters": 100}, "clustered t"),
        ({"better": 0.005, "worse": 0.005, "clusters": 400}, "Dirichlet"),
        ({"better": 0.3, "worse": 0.2, "clusters": 39, "size": 5}, "wild cluster bootstrap"),
        ({"better": 0.3, "worse": 0.2, "clusters": 40, "size": 5}, "clustered t"),
        ({"better": 0.3, "worse": 0.3, "clusters": 4, "size": 50}, "4 clusters tell no spread"),
    ],
)
def test_the_method_is_what_the_data_bear(arguments, method):
    comparison = drawn(1, **arguments)
    assert comparison.interval.method == method
    assert comparison.interval.holds(comparison.difference)
    assert comparison == drawn(1, **arguments)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("better", "worse", "clusters", "size", "sets"),
    [
        (0.2, 0.1, 20, 1, 200),
        (0.1, 0.0, 50, 1, 200),
        (0.05, 0.02, 120, 1, 200),
        (0.2, 0.1, 150, 1, 300),
        (0.3, 0.1, 12, 5, 60),
        (0.3, 0.1, 60, 5, 300),
    ],
)
def test_the_interval_holds_the_truth(better, worse, clusters, size, sets):
    held = [drawn(seed, better, worse, clusters, size).interval.holds(better - worse) for seed in range(sets)]
    assert np.mean(held) >= 0.92


@pytest.mark.integration
@pytest.mark.parametrize(("clusters", "size", "sets"), [(20, 1, 200), (120, 1, 400), (60, 5, 400), (12, 5, 60)])
def test_no_difference_is_rarely_taken_for_one(clusters, size, sets):
    ps = [drawn(seed, 0.2, 0.2, clusters, size).p for seed in range(sets)]
    assert np.mean(np.array(ps) <= 0.05) <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / sets)


def test_the_wild_bootstrap_imposes_the_null():
    sums = np.array([3.0, 1, -1, 2, 0, 2, 4, -2, 1, 3, 2, 0])
    flipped = np.array(list(product([-1, 1], repeat=12))) * sums
    statistics = np.abs(flipped.mean(axis=1)) / flipped.std(axis=1, ddof=1)
    exact = np.mean(statistics >= abs(sums.mean()) / sums.std(ddof=1) - 1e-12)
    interval, p = wild(sums, np.full(12, 5.0), 1.0, 0.95)
    assert p == pytest.approx(exact, abs=0.012)
    assert interval.low == pytest.approx(0.0, abs=0.01)  # where p goes through 0.05


def test_variants_that_never_differ_may_differ():
    same = told(compare(np.ones(50), np.ones(50)))
    assert same.interval.low < -0.01
    assert same.interval.high > 0.01
    always = told(compare(np.zeros(200), np.full(200, 0.5)))
    assert always.interval.width > 0
    assert told(compare(np.zeros(60), np.ones(60), np.arange(60) // 10)).interval.width > 0.5


@pytest.mark.parametrize("items", [1, 3, 80, 2_000])
def test_where_all_differ_by_the_same_the_interval_reaches_there(items):
    for difference in (-1.0, 1.0, 0.5):
        found = compare(np.zeros(items), np.full(items, difference))
        assert found.interval.holds(difference)
        assert found.interval.low < found.interval.high


def test_a_detectable_difference_is_mostly_detected():
    like = drawn(0, 0.15, 0.15, 200)
    shift = like.detectable / 2
    found = [drawn(seed, 0.15 + shift, 0.15 - shift, 200).p <= 0.05 for seed in range(300)]
    assert 0.7 <= np.mean(found) <= 0.9


def test_holm_is_as_published():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="one of both"):
        compare(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="failed"):
        compare(np.array([1.0, np.nan]), np.ones(2))
    with pytest.raises(ValueError, match="span"):
        compare(np.array([1.0, 5.0]), np.array([5.0, 1.0]))
    assert isinstance(compare(np.array([]), np.array([])), Undefined)
