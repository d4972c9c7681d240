"""Clopper and Pearson's bounds: known values, and the distributions of SciPy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_workers.stats.binomial import (
    clopper_pearson_lower,
    clopper_pearson_upper,
    incomplete_beta,
)


@pytest.mark.parametrize(("wrong", "enough"), [(0, 299), (1, 473), (3, 773)])
def test_one_per_cent_is_shown_by_known_numbers_of_audits(wrong: int, enough: int) -> None:
    assert clopper_pearson_upper(wrong, enough, 0.05) <= 0.01
    assert clopper_pearson_upper(wrong, enough - 1, 0.05) > 0.01


@pytest.mark.integration
@pytest.mark.parametrize(("wrong", "audits"), [(0, 1), (1, 2), (7, 20), (50, 100), (3, 5_000), (900, 100_000)])
def test_the_bounds_are_quantiles_of_beta_distributions(wrong: int, audits: int) -> None:
    from scipy import stats  # here: else every process of a run imports it

    assert clopper_pearson_upper(wrong, audits, 0.05) == pytest.approx(
        stats.beta.ppf(0.95, wrong + 1, audits - wrong), abs=1e-9
    )
    lower = stats.beta.ppf(0.05, wrong, audits - wrong + 1) if wrong else 0.0
    assert clopper_pearson_lower(wrong, audits, 0.05) == pytest.approx(lower, abs=1e-9)


def test_without_audits_and_where_all_are_wrong_nothing_is_excluded() -> None:
    assert (clopper_pearson_lower(0, 0, 0.05), clopper_pearson_upper(0, 0, 0.05)) == (0.0, 1.0)
    assert clopper_pearson_upper(5, 5, 0.05) == 1.0


@pytest.mark.integration
@given(x=st.floats(0, 1), a=st.floats(0.5, 2_000), b=st.floats(0.5, 2_000))
def test_the_incomplete_beta_is_scipys(x: float, a: float, b: float) -> None:
    from scipy import stats

    assert incomplete_beta(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), abs=1e-7)
