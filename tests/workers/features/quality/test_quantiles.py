"""Quantiles and tails are those of SciPy, which is imported by each test: collecting them would wait for it."""

import pytest

from headrace_workers.stats.estimates import normal_quantile, t_quantile, t_tail

FREEDOM = [0.5, 1, 1.5, 2, 4.7, 29, 500, 999.9, 1_000, 5_000, 1e7, 1e12]
LEVELS = [0.01, 0.5, 0.6, 0.9, 0.95, 0.999, 0.99999]


@pytest.mark.parametrize("freedom", FREEDOM)
def test_quantiles_of_t_are_scipys(freedom: float) -> None:
    from scipy.special import stdtrit

    for level in LEVELS:
        assert t_quantile(level, freedom) == pytest.approx(stdtrit(freedom, (1 + level) / 2), rel=1e-9)


@pytest.mark.parametrize("freedom", FREEDOM)
def test_tails_of_t_are_scipys(freedom: float) -> None:
    from scipy.special import stdtr

    for statistic in (0.0, 1e-3, 0.3, 1.0, 1.96, 3.0, 5.0, 10.0, 40.0):
        assert t_tail(statistic, freedom) == pytest.approx(2 * stdtr(freedom, -statistic), rel=1e-6, abs=1e-12)
        assert t_tail(-statistic, freedom) == t_tail(statistic, freedom)


def test_quantiles_of_the_normal_distribution_are_scipys() -> None:
    from scipy.special import ndtri

    assert [normal_quantile(level) for level in LEVELS] == pytest.approx(
        [ndtri((1 + x) / 2) for x in LEVELS], rel=1e-12
    )
