import numpy as np
import pytest

from headrace_workers.stats.comparison import mean
from headrace_workers.stats.detection_rates import wilson
from headrace_workers.stats.estimates import Estimate, Undefined


def estimate(*args: object) -> Estimate:
    found = mean(*args)  # type: ignore[arg-type]
    assert isinstance(found, Estimate)
    return found


def test_shares_have_wilsons_interval() -> None:
    for count in (10, 1_000):
        found = estimate(np.repeat([0.0, 1.0], [count, 3 * count]))
        assert (found.value, found.interval) == (0.75, wilson(0.75, 4 * count, 0.95))


def test_few_scores_in_between_are_taken_as_if_they_were_shares() -> None:
    scores = np.linspace(0.4, 0.6, 50)
    few, many = estimate(scores), estimate(np.tile(scores, 10))
    assert few.interval.width > 0.2
    assert many.interval.width < 0.02
    assert many.interval.holds(0.5)


def test_scores_without_spread_are_not_taken_for_certain() -> None:
    assert estimate(np.full(200, 0.5)).interval.width > 0.05


def test_clusters_widen_it() -> None:
    scores = np.repeat(np.tile([0.0, 1.0], 10), 20)
    alone, together = estimate(scores), estimate(scores, np.repeat(np.arange(20), 20))
    assert together.interval.width > 2 * alone.interval.width
    assert together.clusters == 20


def test_nothing_has_no_mean_and_nan_is_refused() -> None:
    assert isinstance(mean(np.array([])), Undefined)
    with pytest.raises(ValueError, match="leave items out"):
        mean(np.array([0.5, np.nan]))
