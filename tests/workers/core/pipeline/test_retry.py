import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_workers.core.pipeline.stage import RetrySchedule

USUAL = RetrySchedule()


class Highest(random.Random):
    def uniform(self, a, b):
        assert a == 0
        return b


def test_the_bound_of_a_delay_doubles_up_to_a_minute():
    found = [USUAL.delay(n, Highest()) for n in range(9)]
    assert found == [1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_a_schedule_may_last_for_days():
    days = RetrySchedule(first=10.0, longest=43_200.0, attempts=20)
    found = [days.delay(n, Highest()) for n in (1, 2, 10, 14, 20)]
    assert found == [10.0, 20.0, 5_120.0, 43_200.0, 43_200.0]
    assert (days.most(5), USUAL.most(5)) == (20, 5)


def test_a_delay_that_was_asked_for_is_the_least():
    assert USUAL.delay(1, Highest(), 300.0) == 300.0
    assert USUAL.delay(9, Highest(), 5.0) == 60.0


@given(attempt=st.integers(0, 10_000), seed=st.integers())
def test_delays_are_full_jitter_within_bounds(attempt, seed):
    assert 0 <= USUAL.delay(attempt, random.Random(seed)) <= min(60.0, 2.0 ** max(0, min(attempt, 20) - 1))


def test_delays_spread():
    """Jobs that failed together do not come back together, and later attempts wait longer on average."""
    chance = random.Random(3)
    means = [sum(USUAL.delay(attempt, chance) for _ in range(500)) / 500 for attempt in (1, 4, 12)]
    assert means == sorted(means)
    assert len({USUAL.delay(1, chance) for _ in range(50)}) == 50


@pytest.mark.parametrize("attempts", [None, 7])
def test_a_stage_may_have_attempts_of_its_own(attempts):
    """Else the deployment says."""
    assert RetrySchedule(attempts=attempts).most(5) == (attempts or 5)
