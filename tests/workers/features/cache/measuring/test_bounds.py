import numpy as np
import pytest

from headrace_workers.features.cache.calibration.binomial import clopper_pearson_upper
from headrace_workers.features.cache.measuring.clustered_bounds import upper_bound, upper_bounds


def test_what_fails_by_itself_has_clopper_and_pearsons_bound() -> None:
    """Of 299 without an error, at most 1 % may be wrong."""
    assert upper_bound([(0, 1)] * 299) == pytest.approx(0.01, abs=1e-4)
    assert upper_bound([(number % 100 == 0, 1) for number in range(1_000)]) >= clopper_pearson_upper(10, 1_000, 0.05)


def test_what_fails_together_has_a_wider_one() -> None:
    """A hundred errors in one cluster of ten say less than ten in each."""
    assert upper_bound([(100, 100)] + [(0, 100)] * 9) > upper_bound([(10, 100)] * 10) + 0.1


def test_of_nothing_all_may_be_wrong() -> None:
    """And columns are told apart."""
    assert upper_bound([]) == 1.0
    wrong, of = np.array([[0.0, 0.0]]), np.array([[0.0, 299.0]])
    assert upper_bounds(wrong, of) == [1.0, pytest.approx(0.01, abs=1e-4)]


def test_a_stricter_level_has_a_wider_bound() -> None:
    """As it takes to look at many at once."""
    assert upper_bound([(0, 1)] * 299, alpha=0.05 / 30) > 0.02
