"""Prediction intervals hold as often as they say, for whatever lines are like."""

import random

import pytest
from tests.slow import slow_after_first

from headrace_workers.features.batches.commands.forecast import LEVEL, Interval, Ran, last_one, predicted, side_by_side


def short(chance, wanted):
    return wanted if chance.random() < 0.08 else min(wanted, 1 + int(chance.expovariate(1 / 20)))


def skewed(chance, wanted):
    return min(wanted, max(1, int(chance.lognormvariate(4, 0.9))))


def two_kinds(chance, wanted):
    return 1 if chance.random() < 0.5 else max(1, int(wanted * chance.uniform(0.7, 1)))


def full(chance, wanted):
    return wanted


@pytest.mark.integration
@pytest.mark.parametrize("write", [short, skewed, two_kinds, full])
@pytest.mark.parametrize(("known", "lines"), slow_after_first([(60, 40), (1_000, 64), (400, 800)]))
def test_the_interval_holds_for_nine_of_ten_sub_batches(write, known, lines):
    chance = random.Random(f"{write.__name__} {known} {lines}")
    everything = []
    for _ in range(5_000):
        wanted = chance.choice([64, 64, 256, 512])
        wrote = write(chance, wanted)
        everything.append(Ran(wanted, wrote, 3 + wrote * chance.uniform(0.8, 1.6)))
    held = {"wrote": 0, "busy_ms": 0}
    for _ in range(200):
        drawn = chance.sample(everything, known + lines)
        history, batch = drawn[:known], drawn[known:]
        wanted = {tokens: sum(ran.wanted == tokens for ran in batch) for tokens in (64, 256, 512)}
        for name in held:
            most = 1.0 if name == "wrote" else None
            interval = predicted(wanted, history, lambda each, name=name: getattr(each, name), most)
            truth = sum(getattr(ran, name) for ran in batch)
            held[name] += interval.low - 1e-6 <= truth <= interval.high + 1e-6
    assert held["wrote"] >= 200 * LEVEL
    assert held["busy_ms"] >= 200 * LEVEL


@pytest.mark.integration
@pytest.mark.parametrize("lines", slow_after_first([12, 24, 64, 400]))
@pytest.mark.parametrize("slots", [1, 3])
def test_the_clock_holds_for_nine_of_ten_batches_of_few_groups_and_of_many(lines, slots):
    chance = random.Random(f"{lines} {slots}")

    def ran():
        wrote = skewed(chance, 64)
        return Ran(64, wrote, 3 + wrote * chance.uniform(0.8, 1.6))

    held = 0
    for _ in range(200):
        history = [ran() for _ in range(100)]
        spans = schedule(history, slots)
        batch = [ran() for _ in range(lines)]
        parallel, longest = side_by_side(spans), max(end - start for start, end in spans)
        told = predicted({64: lines}, history, lambda ran: ran.busy_ms).over(parallel)
        clock = max(end for _, end in schedule(batch, slots))
        told = told.ends_with(last_one(longest, parallel))
        held += told.low <= clock <= told.high
    assert held >= 200 * LEVEL


def schedule(lines, slots, size=8):
    """When each group of so many lines runs, on as many slots: (start, end)."""
    free, spans = [0.0] * slots, []
    for first in range(0, len(lines), size):
        start = min(free)
        end = start + sum(line.busy_ms for line in lines[first : first + size])
        free[free.index(start)] = end
        spans.append((start, end))
    return spans


def test_it_narrows_as_more_is_known():
    chance = random.Random(5)
    ran = [Ran(64, skewed(chance, 64), 1.0) for _ in range(2_000)]
    few, many = (predicted({64: 1_000}, part, lambda ran: ran.wrote, 1.0) for part in (ran[:50], ran))
    assert few.high - few.low > 2 * (many.high - many.low)
    assert max(few.high, many.high) <= 64_000


def test_no_line_is_expected_to_write_more_than_it_may():
    told = predicted({64: 10}, [Ran(64, 67, 1.0)] * 30, lambda ran: ran.wrote, 1.0)
    assert told == Interval(640, 640, 640)


def test_a_kind_of_which_little_is_known_may_be_as_long_or_as_large_a_share():
    ran = [Ran(64, 32, 1.0)] * 30
    told = predicted({512: 10}, ran, lambda ran: ran.wrote, 1.0)
    assert (told.low, told.high) == (320, 2_560)
    assert predicted({64: 10}, ran, lambda ran: ran.wrote, 1.0).expected == 320
    assert predicted({64: 10}, ran[:19], lambda ran: ran.wrote, 1.0) is None


@pytest.mark.parametrize(
    ("intervals", "parallel"),
    [([], 1.0), ([(0, 10)], 1.0), ([(0, 10), (0, 10), (20, 30), (20, 30)], 2.0), ([(0, 10), (5, 15)], 20 / 15)],
)
def test_how_many_ran_side_by_side(intervals, parallel):
    assert side_by_side(intervals) == pytest.approx(parallel)
