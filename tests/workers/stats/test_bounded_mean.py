"""The mean of bounded values under watch: its interval is valid at every look, and narrows."""

import numpy as np
import pytest

from headrace_workers.stats.bounded_mean import WatchedMean
from headrace_workers.stats.estimates import Floats

_WORLDS, _ITEMS, _LOOKS = 400, 400, 20


def _scores(name: str, random: np.random.Generator) -> tuple[Floats, float]:
    """Return differences of paired scores, and their true mean."""
    match name:
        case "all or nothing":
            return random.choice([-1.0, 0.0, 1.0], _ITEMS, p=[0.2, 0.5, 0.3]), 0.1
        case "few differ":
            return random.choice([0.0, 1.0], _ITEMS, p=[0.98, 0.02]), 0.02
        case "fractions":
            return random.beta(2, 6, _ITEMS) - random.beta(2, 6, _ITEMS), 0.0
        case _:
            return np.full(_ITEMS, 0.3), 0.3


@pytest.mark.parametrize("name", ["all or nothing", "few differ", "fractions", "constant"])
def test_the_interval_ever_excludes_the_truth_in_at_most_five_of_a_hundred_runs(name: str) -> None:
    random, wrong = np.random.default_rng(7), 0
    for _ in range(_WORLDS):
        differences, truth = _scores(name, random)
        watched = WatchedMean(alpha=0.05)
        held = True
        for part in np.split(differences, _LOOKS):
            watched.add(part)
            held = held and watched.interval.holds(truth)
        wrong += not held
    assert wrong <= 0.05 * _WORLDS


def test_a_clear_difference_is_found_long_before_the_end() -> None:
    random = np.random.default_rng(1)
    watched = WatchedMean()
    while watched.interval.holds(0.0):
        watched.add(random.choice([-1.0, 0.0, 1.0], 10, p=[0.05, 0.55, 0.4]))
    assert watched.n <= 60


def test_the_interval_narrows_to_a_small_share_of_its_span() -> None:
    watched = WatchedMean()
    watched.add(np.zeros(10_000))
    assert watched.interval.width < 0.01
    assert watched.interval.holds(0.0)


def test_values_added_in_parts_give_the_same_interval_as_at_once() -> None:
    values = np.random.default_rng(3).uniform(-0.5, 1.0, 100)
    whole, parts = WatchedMean(), WatchedMean()
    whole.add(values)
    for part in np.split(values, 4):
        parts.add(part)
    assert parts.n == whole.n
    assert parts.interval.low == pytest.approx(whole.interval.low)
    assert parts.interval.high == pytest.approx(whole.interval.high)


def test_without_values_the_interval_is_the_whole_range() -> None:
    interval = WatchedMean(0.0, 1.0).interval
    assert (interval.low, interval.high) == pytest.approx((0.0, 1.0))


def test_a_value_out_of_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="outside of -1 to 1"):
        WatchedMean().add([1.5])
    with pytest.raises(ValueError, match="outside"):
        WatchedMean().add([float("nan")])
    with pytest.raises(ValueError, match="alpha is a probability"):
        WatchedMean(alpha=1.0)
    with pytest.raises(ValueError, match="not below"):
        WatchedMean(1.0, 0.0)
