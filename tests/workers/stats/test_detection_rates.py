"""Rates: by hand, by the books, and in simulated worlds that are sampled unevenly."""

import numpy as np
import pytest

from headrace_workers.stats.detection_rates import clopper_pearson, rates, share
from headrace_workers.stats.estimates import Estimate, Undefined


def told(found: Estimate | Undefined) -> Estimate:
    assert isinstance(found, Estimate), found
    return found


def test_rates_are_counts():
    flagged = np.array([True] * 10 + [False] * 90)
    harmful = np.array([True] * 8 + [False] * 2 + [True] * 4 + [False] * 86)
    detection_rates = rates(flagged, harmful)
    assert told(detection_rates.precision).value == 0.8
    assert told(detection_rates.recall).value == pytest.approx(8 / 12)
    assert told(detection_rates.f1).value == pytest.approx(16 / 22)
    assert told(detection_rates.benign_false_positives).value == pytest.approx(2 / 88)
    assert told(detection_rates.precision).n == 10


@pytest.mark.parametrize(("hits", "rows"), [(0, 20), (3, 20), (20, 20), (120, 400)])
def test_intervals_are_scipys(hits, rows):
    from scipy import stats

    test = stats.binomtest(hits, rows)
    shown = told(share(np.arange(rows) < hits)).interval
    for name, ours in (("wilson", shown), ("exact", clopper_pearson(hits / rows, rows, 0.95))):
        theirs = test.proportion_ci(0.95, name)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_rare_rows_count_for_what_they_stand_for():
    flagged = np.array([True] * 10 + [False] * 10)
    harmful = np.array([True] * 8 + [False] * 2 + [True] * 1 + [False] * 9)
    detection_rates = rates(flagged, harmful, np.where(flagged, 1.0, 0.1))
    assert told(detection_rates.recall).value == pytest.approx(8 / 18)
    assert told(detection_rates.f1).value == pytest.approx(16 / (16 + 2 + 10))
    assert told(detection_rates.benign_false_positives).value == pytest.approx(2 / 92)
    even = rates(flagged, harmful)
    assert told(detection_rates.recall).interval.width > told(even.recall).interval.width
    assert "effective" in told(detection_rates.recall).interval.method


def test_repeated_rows_tell_nothing_new():
    """Each row ten times, as a cluster, says as much as once; by themselves such rows would say ten times as much."""
    hits = np.array([True] * 30 + [False] * 10)
    once = told(share(hits)).interval.width
    clustered = told(share(np.repeat(hits, 10), clusters=np.repeat(np.arange(40), 10))).interval.width
    alone = told(share(np.repeat(hits, 10))).interval.width
    assert 0.95 * once < clustered < 1.2 * once
    assert alone < 0.4 * once
    right = np.ones(400, dtype=bool)  # no spread is seen: the clusters count
    assert told(share(right, clusters=np.arange(400) // 10)).interval.low == pytest.approx(
        told(share(np.ones(40, dtype=bool))).interval.low
    )


def test_a_rate_of_nothing_is_a_reason():
    detection_rates = rates(np.zeros(5, dtype=bool), np.zeros(5, dtype=bool))
    assert isinstance(detection_rates.precision, Undefined)
    assert isinstance(detection_rates.recall, Undefined)
    assert isinstance(detection_rates.f1, Undefined)
    assert told(detection_rates.benign_false_positives).value == 0.0
    assert isinstance(share(np.array([], dtype=bool)), Undefined)


@pytest.mark.parametrize("probability", [[0.5, 0.0], [0.5, 1.1], [0.5, np.nan], [0.5]])
def test_a_probability_that_is_none_is_refused(probability):
    with pytest.raises(ValueError, match="probability"):
        share(np.array([True, False]), np.array(probability))


@pytest.mark.parametrize("clustered", [False, True])
def test_intervals_hold_the_truth_of_uneven_samples(clustered):
    size, held, sets = 5 if clustered else 1, np.zeros(3), 400
    truth = (0.8, 0.24 / 0.31, 2 * 0.24 / (0.30 + 0.31))  # 0.3 is flagged, 0.8 of it rightly; of the rest 0.1 is missed
    for seed in range(sets):
        random = np.random.default_rng((seed, size))
        groups = np.arange(1_500) // size
        flagged = random.random(groups[-1] + 1)[groups] < 0.3  # a cluster is flagged as one
        hard = random.random(groups[-1] + 1)[groups] if clustered else random.random(1_500)
        harmful = np.where(flagged, hard < 0.8, hard < 0.1)
        probability = np.where(flagged, 0.5, 0.1 if not clustered else 0.25)
        taken = (random.random(groups[-1] + 1)[groups]) < probability
        detection_rates = rates(flagged[taken], harmful[taken], probability[taken], groups[taken])
        held += [
            told(item).interval.holds(value)
            for item, value in zip(
                (detection_rates.precision, detection_rates.recall, detection_rates.f1), truth, strict=True
            )
        ]
    assert (held / sets >= 0.92).all(), held
