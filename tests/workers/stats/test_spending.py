import math

import numpy as np
import pytest
from tests.workers.stats.worlds import missed_together

from headrace_workers.stats.error_bounds import spend


def test_all_parts_together_stay_below_the_whole() -> None:
    assert 0.0499 < sum(spend(0.05, number) for number in range(1, 10_000)) < 0.05
    assert spend(0.05, 1) == 0.025


@pytest.mark.integration
def test_claims_about_all_scopes_hold_at_once() -> None:
    """The error of all together, and each scope's own claim by its part of alpha: each misses in at most 5 % of worlds,
    looked at after every audit. Without sharing one claim or another would be wrong in more.
    """
    whole, sharing, alone = missed_together(300, 10, 1_200, np.random.default_rng(8))
    by_chance = 0.05 * 300 + 3 * math.sqrt(0.05 * 0.95 * 300)  # three deviations of a count whose mean is 5 %
    assert max(whole, sharing) <= by_chance < alone


def test_claims_are_counted_from_one() -> None:
    """A claim number zero would spend infinitely much."""
    with pytest.raises(ValueError, match="numbered from 1"):
        spend(0.05, 0)
