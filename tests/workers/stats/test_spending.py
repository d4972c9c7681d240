import math

import numpy as np
import pytest
from tests.workers.stats.worlds import missed_together

from headrace_workers.stats.error_bounds import spend


def test_all_parts_together_stay_below_the_whole() -> None:
    assert 0.0499 < sum(spend(0.05, number) for number in range(1, 10_000)) < 0.05
    assert spend(0.05, 1) == 0.025


@pytest.mark.integration
def test_the_error_of_all_scopes_is_missed_in_at_most_one_world_of_twenty() -> None:
    by_chance = 0.05 * 300 + 3 * math.sqrt(0.05 * 0.95 * 300)  # three deviations of a count whose mean is 5 %
    assert missed_together(300, 10, 1_200, np.random.default_rng(8)) <= by_chance


def test_claims_are_counted_from_one() -> None:
    """A claim number zero would spend infinitely much."""
    with pytest.raises(ValueError, match="numbered from 1"):
        spend(0.05, 0)
