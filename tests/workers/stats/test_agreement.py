"""Agreement: published examples, the formulas of others, and intervals that hold the truth in simulated worlds."""

import doctest
import math
import re

import numpy as np
import pytest

from headrace_workers.stats.agreement import alpha, kappa, raw_agreement
from headrace_workers.stats.estimates import Estimate, Undefined

X = math.nan
# Krippendorff 2011, example C: four observers, twelve units.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, X, X, X],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, X, 3],
        [X, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, X],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, X],
    ]
).T
TABLE = [[20, 5], [10, 15]]  # Cohen's κ 0.4


def pairs(table: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Two who labelled, from how often each pair of labels came."""
    cells = [(a, b) for a, row in enumerate(table) for b, times in enumerate(row) for _ in range(times)]
    first, second = np.array(cells).T
    return first, second


def told(found: Estimate | Undefined) -> Estimate:
    assert isinstance(found, Estimate), found
    return found


@pytest.mark.parametrize(("scale", "value"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_is_krippendorffs(scale, value):
    estimate = told(alpha(PUBLISHED, scale))
    assert round(estimate.value, 3) == value
    assert estimate.n == 11
    assert estimate.interval.holds(estimate.value)


@pytest.mark.parametrize("scale", ["nominal", "ordinal", "interval"])
def test_alpha_is_that_of_the_package_krippendorff_on_its_own_matrices(scale):
    """Those in its documentation, and random ones with labels missing."""
    import krippendorff

    shipped = [
        eval(example.source.removeprefix("reliability_data = "), {"np": np})  # the package's own examples
        for example in doctest.DocTestParser().get_examples(krippendorff.alpha.__doc__ or "")
        if re.match(r"reliability_data = \[\[[\dn]", example.source)
    ]
    assert len(shipped) == 2
    random = np.random.default_rng(5)
    drawn = [np.where(random.random((5, 40)) < 0.4, X, random.integers(0, 4, (5, 40))) for _ in range(3)]
    for matrix in (*shipped, *drawn):
        theirs = krippendorff.alpha(matrix, level_of_measurement=scale)
        assert told(alpha(np.array(matrix, dtype=float).T, scale)).value == pytest.approx(theirs)


def test_alpha_is_crowd_kits_on_its_own_example():
    """`crowdkit.metrics.data.alpha_krippendorff` of crowd-kit 1.4.2 documents 0.4444444444444444."""
    estimate = told(alpha(np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]])))
    assert estimate.value == pytest.approx(4 / 9)


def test_kappa_and_its_error_are_those_of_the_books():
    estimate = told(kappa(*pairs(TABLE)))
    assert estimate.value == pytest.approx(0.4)
    # Ours is that of the logarithm of 1 − κ = 0.6.
    error = math.log((1 - estimate.interval.low) / (1 - estimate.value)) / 2.0096  # t of 49
    assert error * 0.6 == pytest.approx(fleiss_error(TABLE) * math.sqrt(50 / 49), rel=1e-3)


def fleiss_error(table: list[list[int]]) -> float:
    """Equation 13 of Fleiss, Cohen and Everitt 1969."""
    p = np.array(table) / np.sum(table)
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    same, chance = np.trace(p), rows @ columns
    k = (same - chance) / (1 - chance)
    on = sum(p[i, i] * (1 - (rows[i] + columns[i]) * (1 - k)) ** 2 for i in range(len(p)))
    off = sum(
        p[i, j] * (columns[i] + rows[j]) ** 2 for i in range(len(p)) for j in range(len(p)) if i != j
    ) * (1 - k) ** 2  # fmt: skip
    return math.sqrt((on + off - (k - chance * (1 - k)) ** 2) / np.sum(table)) / (1 - chance)


@pytest.mark.parametrize(("distance", "weights"), [("nominal", None), ("linear", "linear"), ("quadratic", "quadratic")])
def test_kappa_is_scikit_learns(distance, weights):
    from sklearn.metrics import cohen_kappa_score  # here: else every process of a run imports it

    random = np.random.default_rng(1)
    first = random.integers(1, 6, 300)
    second = np.clip(first + random.integers(-1, 3, 300), 1, 5)
    probability = random.choice([0.25, 1.0], 300)
    estimate = told(kappa(first, second, distance, probability))
    assert estimate.value == pytest.approx(
        cohen_kappa_score(first, second, weights=weights, sample_weight=1 / probability)
    )


def test_raw_agreement_is_high_where_kappa_is_not():
    first, second = pairs([[0, 5], [5, 90]])
    assert told(raw_agreement(first, second)).value == 0.9
    assert told(kappa(first, second)).value < 0
    assert told(kappa(first, second)).interval.holds(0.0)  # one more row, with the rare label twice, would tell 0.1
    assert told(alpha(np.stack([first, second], axis=1).astype(float))).interval.holds(0.0)


def test_no_disagreement_is_no_certainty():
    few, many = np.array([0, 1] * 5), np.array([0, 1] * 500)
    assert told(kappa(few, few)).value == 1.0
    assert told(kappa(few, few)).interval.low < 0.5
    assert 0.98 < told(kappa(many, many)).interval.low < 1.0
    assert 0.98 < told(alpha(np.stack([many, many], axis=1).astype(float))).interval.low < 1.0


@pytest.mark.parametrize(
    "found",
    [
        kappa(np.array([1, 1]), np.array([1, 1])),
        kappa(np.array([]), np.array([])),
        alpha(np.array([[1.0, X], [X, 2.0]])),
        alpha(np.array([[1.0, 1.0], [1.0, 1.0]])),
        raw_agreement(np.array([]), np.array([])),
    ],
)
def test_what_cannot_be_told_is_told_so(found):
    assert isinstance(found, Undefined)
    assert found.reason


def test_labels_of_other_rows_are_refused():
    with pytest.raises(ValueError, match="same rows"):
        kappa(np.array([1]), np.array([1, 2]))
    with pytest.raises(ValueError, match="interval scale"):
        kappa(np.arange(300), np.arange(300), "quadratic")


@pytest.mark.parametrize("size", [1, 5])
def test_intervals_hold_the_truth(size):
    def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        random = np.random.default_rng((seed, size))
        groups = np.arange(rows) // size
        errs = random.choice([0.02, 0.4], groups[-1] + 1)[groups]
        truth = random.random(rows) < 0.3
        first, second = (truth ^ (random.random(rows) < errs) for _ in range(2))
        return first.astype(float), second.astype(float), groups

    first, second, groups = drawn(200_000, 0)
    kappa_truth = told(kappa(first, second)).value
    alpha_truth = told(alpha(np.stack([first, second], axis=1))).value
    held = np.zeros(2)
    for seed in range(1, 301):
        first, second, groups = drawn(150, seed)
        held += (
            told(kappa(first, second, clusters=groups)).interval.holds(kappa_truth),
            told(alpha(np.stack([first, second], axis=1), clusters=groups)).interval.holds(alpha_truth),
        )
    assert (held / 300 >= 0.93).all(), held
    assert (held / 300 <= 0.98).all(), held
