"""Variances between items and within them, against data that are made with known ones."""

import numpy as np
import pytest

from headrace_workers.features.evals.spread import spread


def test_both_variances_are_found() -> None:
    """Of 4,000 items with four repeats each, some of them missing."""
    chance = np.random.default_rng(7)
    scores = chance.normal(0.5, 0.2, (4_000, 1)) + chance.normal(0.0, 0.1, (4_000, 4))
    scores[chance.random(scores.shape) < 0.2] = np.nan
    found = spread(scores)
    assert found is not None
    assert found.between == pytest.approx(0.04, rel=0.1)
    assert found.within == pytest.approx(0.01, rel=0.1)


def test_items_that_are_all_alike_differ_by_their_repeats_alone() -> None:
    """And repeats that are all alike by nothing; a variance is never below 0."""
    noisy = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    found = spread(noisy)
    assert found is not None
    assert (found.between, found.within) == (0.0, 0.5)
    steady = spread(np.array([[0.0, 0.0], [1.0, 1.0]]))
    assert steady is not None
    assert (steady.between, steady.within) == (0.5, 0.0)


@pytest.mark.parametrize(
    "scores",
    [np.ones((5, 1)), np.full((5, 3), np.nan), np.array([[1.0, 0.0], [np.nan, np.nan]]), np.array([[1.0, np.nan]] * 4)],
)
def test_what_cannot_be_told_apart_is_not_told(scores: np.ndarray) -> None:
    """One repeat of each, no score, or one item alone."""
    assert spread(scores) is None
