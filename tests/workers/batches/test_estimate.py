"""Prediction intervals hold as often as they say, for whatever lines are like."""

import random

import pytest

from headrace_workers.batches.estimate import LEVEL, Ran, predicted, side_by_side


def short(chance, wanted):
    """Mostly a few tokens, now and then all that are allowed."""
    return wanted if chance.random() < 0.08 else min(wanted, 1 + int(chance.expovariate(1 / 20)))


def skewed(chance, wanted):
    """Lengths as texts have them."""
    return min(wanted, max(1, int(chance.lognormvariate(4, 0.9))))


def two_kinds(chance, wanted):
    """Yes or no, or an essay."""
    return 1 if chance.random() < 0.5 else max(1, int(wanted * chance.uniform(0.7, 1)))


def full(chance, wanted):
    """Always as long as allowed."""
    return wanted


@pytest.mark.parametrize("write", [short, skewed, two_kinds, full])
@pytest.mark.parametrize(("known", "lines"), [(60, 40), (1_000, 64), (400, 800)])
def test_the_interval_holds_for_nine_of_ten_sub_batches(write, known, lines):
    """Of 200 that are drawn from the same lines, each with what was known before it; tokens and busy time alike."""
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
        wanted = {tokens: sum(each.wanted == tokens for each in batch) for tokens in (64, 256, 512)}
        for name in held:
            most = 1.0 if name == "wrote" else None
            interval = predicted(wanted, history, lambda each, name=name: getattr(each, name), most)
            truth = sum(getattr(each, name) for each in batch)
            held[name] += interval.low - 1e-6 <= truth <= interval.high + 1e-6
    assert held["wrote"] >= 200 * LEVEL
    assert held["busy_ms"] >= 200 * LEVEL


def test_it_narrows_as_more_is_known():
    """And is never more than all lines may write together."""
    chance = random.Random(5)
    ran = [Ran(64, skewed(chance, 64), 1.0) for _ in range(2_000)]
    few, many = (predicted({64: 1_000}, part, lambda each: each.wrote, 1.0) for part in (ran[:50], ran))
    assert few.high - few.low > 2 * (many.high - many.low)
    assert max(few.high, many.high) <= 64_000


def test_a_kind_of_which_little_is_known_may_be_as_long_or_as_large_a_share():
    """Both are in the interval. Nothing is told where too few lines ran at all."""
    ran = [Ran(64, 32, 1.0)] * 30
    told = predicted({512: 10}, ran, lambda each: each.wrote, 1.0)
    assert (told.low, told.high) == (320, 2_560)
    assert predicted({64: 10}, ran, lambda each: each.wrote, 1.0).expected == 320
    assert predicted({64: 10}, ran[:19], lambda each: each.wrote, 1.0) is None


@pytest.mark.parametrize(
    ("intervals", "parallel"),
    [([], 1.0), ([(0, 10)], 1.0), ([(0, 10), (0, 10), (20, 30), (20, 30)], 2.0), ([(0, 10), (5, 15)], 20 / 15)],
)
def test_how_many_ran_side_by_side(intervals, parallel):
    """Time in which nothing ran does not count."""
    assert side_by_side(intervals) == pytest.approx(parallel)
