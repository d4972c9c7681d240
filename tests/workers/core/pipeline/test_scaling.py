import pytest

from headrace_workers.core.pipeline.scaling import (
    LEAST_SECONDS,
    QUIET_SECONDS,
    START_SECONDS,
    DueWork,
    Peak,
    Rate,
    after_quiet,
    learn,
    workers_needed,
)


def due(seconds, work, steps=1_000):
    return DueWork(seconds + START_SECONDS, steps, work)


def needed(*ready, rate=1.0, current=0, busy=0):
    return workers_needed(ready, rate, current=current, busy=busy)


def test_the_time_that_needs_most_workers_counts():
    assert needed(due(100, 1_000), due(1_000, 1_000)) == 10
    assert needed(due(100, 100), due(1_000, 5_000)) == 6
    assert needed(due(1_000, 5_000), due(100, 100)) == 6


def test_part_of_a_worker_is_one():
    assert needed(due(100, 101)) == 2
    assert needed(due(1_000_000, 1)) == 1


def test_what_is_late_is_to_be_done_soon_and_not_at_once():
    late = DueWork(-3_600.0, 1_000, 90.0)
    assert needed(late) == 90 / LEAST_SECONDS


def test_no_more_workers_than_steps_are_wanted():
    assert needed(due(10, 10_000, steps=3)) == 3


def test_a_busy_worker_is_needed_though_nothing_waits():
    assert needed(busy=2) == 2
    assert needed(due(1_000, 1), busy=2) == 2
    assert needed() == 0


@pytest.mark.parametrize(("current", "busy", "wanted"), [(0, 0, 1), (2, 0, 3), (2, 3, 4)])
def test_without_a_rate_there_is_one_more_worker_at_a_time(current, busy, wanted):
    assert needed(due(10, 10), rate=None, current=current, busy=busy) == wanted


def test_without_work_no_rate_is_needed():
    assert needed(rate=None, current=3) == 0


def test_fewer_workers_are_wanted_after_a_quiet_time():
    peaks = after_quiet((), 0.0, 5)
    peaks = after_quiet(peaks, 10.0, 2)
    peaks = after_quiet(peaks, 20.0, 3)
    assert peaks[0].workers == 5
    assert after_quiet(peaks, QUIET_SECONDS - 1, 0)[0].workers == 5
    assert after_quiet(peaks, QUIET_SECONDS, 0)[0].workers == 3
    assert after_quiet(peaks, QUIET_SECONDS + 20, 0)[0].workers == 0


def test_more_workers_are_wanted_at_once():
    assert after_quiet(after_quiet((), 0.0, 2), 1.0, 7) == (Peak(1.0, 7),)


def test_a_clock_that_is_set_back_keeps_no_peak_for_ever():
    peaks = after_quiet((), 10_000.0, 9)
    assert after_quiet(peaks, 100.0, 1) == (Peak(100.0, 1),)


def test_a_rate_is_learnt_from_the_work_of_late():
    rate = learn(Rate(), 100.0, 10.0)
    assert rate.per_second == 10.0
    for _ in range(200):
        rate = learn(rate, 1_000.0, 10.0)
    assert rate.per_second == pytest.approx(100.0, rel=0.01)
    assert rate.seconds <= 900.0


def test_one_look_with_more_work_than_is_remembered_is_all_that_counts():
    assert learn(Rate(100.0, 100.0), 5_000.0, 1_000.0).per_second == 5.0


def test_no_rate_is_known_while_nothing_was_done():
    assert Rate().per_second is None
    assert learn(Rate(), 0.0, 5.0).per_second is None
