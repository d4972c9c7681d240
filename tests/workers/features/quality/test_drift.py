"""The drift alarm: it rings where verdicts become worse, and rarely otherwise, however often it is asked."""

import numpy as np
import pytest

from headrace_workers.features.quality.assessment import drift
from headrace_workers.stats.binomial import clopper_pearson_upper
from headrace_workers.stats.error_bounds import watched_lower


def rang(before: float, fresh: float, seed: int) -> str | None:
    """What it said first, asked after every tenth of 200 fresh labels; None if it said nothing."""
    random = np.random.default_rng((seed, 1))
    was = int((random.random(300) < before).sum())
    wrong = np.cumsum(random.random(200) < fresh)
    for of in range(10, 201, 10):
        if (said := drift((was, 300), (int(wrong[of - 1]), of)).says) != "none shown":
            return said
    return None


@pytest.mark.integration
def test_it_rings_where_verdicts_become_worse_and_not_otherwise():
    """From 10 % wrong to 40 %: always. Still 10 %: hardly ever, though it was asked twenty times."""
    assert [rang(0.1, 0.4, seed) for seed in range(8)] == ["worse"] * 8
    assert sum(rang(0.1, 0.1, seed) is not None for seed in range(40)) <= 2
    assert [rang(0.4, 0.05, seed) for seed in range(4)] == ["better"] * 4


def test_it_is_what_the_watched_bounds_say():
    most = clopper_pearson_upper(30, 300, 0.0125)
    rings = [drift((30, 300), (wrong, 100)).says == "worse" for wrong in range(15, 40)]
    bounds = [watched_lower([1.0], [wrong], [100], 0.0125) > most for wrong in range(15, 40)]
    assert rings == bounds
    assert 0 < sum(rings) < len(rings)


def test_it_says_what_it_saw():
    assert drift((30, 300), (60, 150)).words == (
        "Verdicts have become worse: 60 of 150 fresh labels say that the verdict is wrong, and 30 of 300 did before. "
        "Calibrate anew, and look at what changed."
    )
    assert drift((0, 0), (5, 5)).says == "none shown"


@pytest.mark.parametrize("counts", [((2, 1), (0, 0)), ((0, 0), (-1, 3))])
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(ValueError, match="counts"):
        drift(*counts)
