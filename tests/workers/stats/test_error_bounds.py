"""The error among what was served: strata, weights, and audits that nobody could decide."""

import pytest

from headrace_workers.stats.error_bounds import Stratum, served_error


def test_a_stratum_counts_by_what_it_served_and_not_by_its_audits() -> None:
    rare, common = Stratum(served=100, clean=50, wrong=50), Stratum(served=9_900, clean=60, wrong=0)
    bound = served_error([rare, common])
    assert bound.estimate == pytest.approx(0.005)
    assert (bound.audits, bound.wrong, bound.unknown, bound.clean) == (160, 50, 0, 110)
    assert bound.lower < 0.005 < bound.upper


def test_undecided_audits_are_shown_both_ways_and_accuse_nobody() -> None:
    decided = served_error([Stratum(served=10_000, clean=500, wrong=0)])
    doubtful = served_error([Stratum(served=10_000, clean=500, wrong=0, unknown=100)])
    assert doubtful.upper == decided.upper
    assert doubtful.lower == pytest.approx(0.0, abs=1e-9)
    assert doubtful.upper_if_unknown_wrong > 100 / 600
    accused = served_error([Stratum(served=10_000, clean=500, wrong=30)])
    assert served_error([Stratum(served=10_000, clean=500, wrong=30, unknown=100)]).lower < accused.lower


@pytest.mark.parametrize("strata", [[], [Stratum(0, 0, 0)], [Stratum(0, 0, 0), Stratum(50, 0, 0)]])
def test_without_audits_everything_is_possible(strata: list[Stratum]) -> None:
    bound = served_error(strata)
    assert bound.estimate is None
    assert (bound.lower, bound.upper, bound.upper_if_unknown_wrong) == pytest.approx((0.0, 1.0, 1.0))


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="at most as many audits as serves"):
        Stratum(served=5, clean=3, wrong=1, unknown=2)
    with pytest.raises(ValueError, match="no negative counts"):
        Stratum(served=5, clean=-1, wrong=0)
    with pytest.raises(ValueError, match="alpha is a probability"):
        served_error([Stratum(1, 0, 0)], 1.0)
