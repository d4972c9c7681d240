"""Workers that follow `headrace_workers_wanted` miss nothing that is due, and cost less than those of other rules."""

import pytest
from bench.scaling import TRAFFIC, Arrival, compare, length_rule, simulate, slow_day, wanted_rule


@pytest.mark.parametrize("name", ["burst", pytest.param("slow day", marks=pytest.mark.slow),
                                  pytest.param("deadline cliff", marks=pytest.mark.slow)])  # fmt: skip
def test_wanted_workers_end_jobs_in_time_in_fewer_hours(name):
    wanted, by_length, same_hours, in_time = compare(TRAFFIC[name]()).values()
    assert wanted.missed <= 0.001
    assert by_length.missed > wanted.missed or by_length.hours > wanted.hours
    assert same_hours.missed > 0.1
    assert in_time.hours > 1.2 * wanted.hours


def test_jobs_of_a_few_hours_are_in_time_while_the_rate_is_learnt():
    assert simulate(slow_day(hours=8), wanted_rule()).missed == 0


def test_a_queue_that_is_always_busy_is_not_scaled_to_none():
    """One worker is enough for jobs that come one after the other: none is ever seen waiting."""
    steady = [Arrival(0, at + 120.0, at, 200) for at in range(0, 3_600, 5)]
    outcome = simulate(steady, wanted_rule())
    assert outcome.missed == 0
    assert outcome.hours < 2.5


def test_without_jobs_there_are_no_workers_after_a_while():
    two = [Arrival(0, 100.0 + at, at, 100) for at in (0, 36_000)]
    assert simulate(two, wanted_rule()).hours < 0.5
    assert simulate(two, length_rule()).hours < 0.5
