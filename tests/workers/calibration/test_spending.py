"""An allowance that never runs out."""

import pytest

from headrace_workers.calibration.spending import spend


def test_all_parts_together_stay_below_the_whole() -> None:
    """However many claims there are, they spend less than alpha, and nearly all of it."""
    assert 0.0499 < sum(spend(0.05, number) for number in range(1, 10_000)) < 0.05
    assert spend(0.05, 1) == 0.025


def test_claims_are_counted_from_one() -> None:
    """A claim number zero would spend infinitely much."""
    with pytest.raises(ValueError, match="numbered from 1"):
        spend(0.05, 0)
