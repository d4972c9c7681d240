"""The corrected mean: known cases, the paper's own code, coverage in simulated worlds (4,000 sets in the bench)."""

from dataclasses import replace
from functools import cache
from statistics import NormalDist

import numpy as np
import pytest
from bench.ppi_worlds import FEW, NEAR, SHARES, WORLDS, Found, World, draw, found
from tests.slow import slow_after_first

from headrace_workers.stats.estimates import Undefined
from headrace_workers.stats.ppi import LEAST_LABELS, LEAST_RARE, Corrected, Verdicts, by_item, true_mean

SETS = 400
NAN = np.nan


def told(verdicts: Verdicts) -> Corrected:
    corrected = true_mean(verdicts)
    assert isinstance(corrected, Corrected), corrected
    return corrected


def labelled(y: np.ndarray, n: int) -> np.ndarray:
    return np.where(np.arange(len(y)) < n, y, NAN)


@cache
def seen(world: World) -> Found:
    """Its sets, drawn once for the tests that look at them."""
    return found(replace(world, items=1_000), SETS)


@pytest.mark.integration
@pytest.mark.parametrize("world", slow_after_first(WORLDS), ids=lambda world: world.name)
def test_the_interval_holds_the_truth_and_the_judges_own_does_not(world):
    of = seen(world)
    assert 0.92 <= of.covered <= 0.98
    assert of.raw_covered < 0.9
    assert of.alone < 0.05


@pytest.mark.slow
def test_all_worlds_together_hold_what_is_said():
    assert 0.94 <= np.mean([seen(world).covered for world in WORLDS]) <= 0.96


@pytest.mark.integration
@pytest.mark.parametrize("world", [*slow_after_first(NEAR), *slow_after_first(FEW)], ids=lambda world: world.name)
def test_few_labels_and_few_disagreements_are_held_cautiously(world):
    """At least 93 %: people alone, and the judge that hardly ever differs from them."""
    of = found(replace(world, items=1_000), SETS // 2)
    assert of.covered >= 0.93
    assert of.alone == (1.0 if world in FEW else 0.0)


@pytest.mark.integration
@pytest.mark.parametrize("world", slow_after_first(SHARES), ids=lambda world: world.name)
def test_where_only_a_share_is_judged_the_interval_holds_the_truth(world):
    assert 0.91 <= found(world, SETS // 2).covered <= 0.985


def published(y: np.ndarray, f: np.ndarray, others: np.ndarray) -> tuple[float, float, float]:
    """The paper's estimate and interval for labels, their verdicts and those of others; it agrees with ppi-python."""
    ratio = len(y) / len(others)
    tuned = np.cov(y, f, ddof=0)[0, 1] / ((1 + ratio) * np.concatenate([f, others]).var())
    tuned = min(1.0, max(0.0, tuned))
    value = tuned * others.mean() + (y - tuned * f).mean()
    variance = (tuned * others).var() / len(others) + (y - tuned * f).var() / len(y)
    half = NormalDist().inv_cdf(0.975) * np.sqrt(variance)
    return value, value - half, value + half


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 1.0])
def test_a_share_of_verdicts_is_worth_what_the_paper_says(share):
    random = np.random.default_rng(11)
    y = (random.random(40_000) < 0.7).astype(float)
    f = np.where(random.random(40_000) < np.where(y == 1, 0.95, 0.1), 1.0, 0.0)
    drawn = np.flatnonzero(random.random(40_000) < share)
    some, others = drawn[:1_000], drawn[1_000:]
    machine, human = np.full(40_000, NAN), np.full(40_000, NAN)
    machine[drawn], human[some] = f[drawn], y[some]
    corrected = told(Verdicts(machine, human, judged=np.full(40_000, share)))
    theirs = published(y[some], f[some], f[others])
    ours = (corrected.value, corrected.interval.low, corrected.interval.high)
    assert ours == pytest.approx(theirs, abs=0.05 * corrected.interval.width)  # its λ is tuned on all at once
    judged_alone = told(Verdicts(machine[drawn], human[drawn]))
    assert judged_alone.value == pytest.approx(corrected.value, rel=1e-12)
    assert judged_alone.interval.width == pytest.approx(corrected.interval.width, rel=1e-9)
    assert judged_alone.follows == pytest.approx(corrected.follows, rel=1e-9)


def test_labels_of_all_items_beside_verdicts_of_doubtful_ones_bias_nothing():
    """All doubtful items, mostly bad, are judged, and three of ten of the others; people label items of both kinds."""
    random = np.random.default_rng(13)
    doubtful = np.arange(4_000) % 2 == 0
    y = (random.random(4_000) < np.where(doubtful, 0.2, 0.9)).astype(float)
    judged = np.where(doubtful, 1.0, 0.3)
    machine = np.where(random.random(4_000) < judged, np.where(random.random(4_000) < 0.95, y, 1 - y), NAN)
    human = np.where(random.random(4_000) < 0.25, y, NAN)
    corrected = told(Verdicts(machine, human, judged=judged))
    assert corrected.interval.holds(0.55)
    assert corrected.interval.width < 0.07
    assert corrected.follows > 0.3


def test_a_judge_whose_verdicts_are_all_labelled_adds_nothing():
    """Its mean is known no better than people's: λ is 0, and the interval that of people alone."""
    random = np.random.default_rng(12)
    y = (random.random(4_000) < 0.7).astype(float)
    there = random.permutation(4_000) < 200
    machine = np.where(there, np.where(random.random(4_000) < 0.9, y, 1 - y), NAN)
    corrected = told(Verdicts(machine, np.where(there, y, NAN), judged=np.full(4_000, 0.05)))
    assert corrected.follows == pytest.approx(0.0, abs=1e-9)
    assert corrected.narrower == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("scores", "value", "low", "high"),
    [(False, 0.70064, 0.68415, 0.71713), (True, 0.70024, 0.68359, 0.71689)],
)
def test_it_is_the_papers_own_code_where_that_applies(scores, value, low, high):
    random = np.random.default_rng(7)
    y = (random.random(20_000) < 0.7).astype(float)
    machine = np.where(random.random(20_000) < np.where(y == 1, 0.9, 0.3), 1.0, 0.0)
    if scores:
        machine = np.clip(0.6 * y + 0.2 + random.normal(0, 0.4, 20_000), 0, 1)
    corrected = told(Verdicts(machine, labelled(y, 2_000)))
    assert corrected.value == pytest.approx(value, abs=2e-4)
    assert corrected.interval.low == pytest.approx(low, abs=3e-4)
    assert corrected.interval.high == pytest.approx(high, abs=3e-4)
    ours = published(y[:2_000], machine[:2_000], machine[2_000:])
    assert ours == pytest.approx((value, low, high), abs=1e-5)


@pytest.mark.parametrize("size", [1, 4])
def test_a_judge_that_says_nothing_leaves_students_t(size):
    from scipy import stats

    y = np.random.default_rng(3).integers(0, 2, 160).astype(float)
    groups = np.arange(160) // size
    corrected = told(Verdicts(np.full(160, 0.5), y, clusters=groups))
    means = y.reshape(-1, size).mean(axis=1)
    theirs = stats.t.interval(0.95, len(means) - 1, means.mean(), stats.sem(means))
    assert (corrected.interval.low, corrected.interval.high) == pytest.approx(theirs)
    assert corrected.follows == 0.0
    assert corrected.narrower == 0.0


def test_uneven_labels_count_for_what_they_stand_for():
    random = np.random.default_rng(4)
    y = (random.random(400) < 0.4).astype(float)
    probability = np.where(random.random(400) < 0.5, 0.2, 0.8)
    corrected = told(Verdicts(np.full(400, 0.5), y, probability))
    assert corrected.value == pytest.approx(np.average(y, weights=1 / probability))
    assert told(Verdicts(np.full(400, 0.5), y, probability / 2)) == corrected


def test_the_judge_is_followed_between_not_and_wholly():
    """One that says the contrary is not followed; one whose steps are half as high as people's is followed once."""
    random = np.random.default_rng(5)
    y = (random.random(3_000) < 0.5).astype(float)
    noise = random.normal(0, 0.05, 3_000)
    contrary = told(Verdicts(np.clip(0.7 - 0.4 * y + noise, 0, 1), labelled(y, 300)))
    assert contrary.follows == 0.0
    assert contrary.narrower == 0.0
    assert told(Verdicts(np.clip(0.3 + 0.4 * y + noise, 0, 1), labelled(y, 300))).follows == pytest.approx(
        1.0, abs=1e-9
    )


@pytest.mark.integration
def test_lambda_comes_from_other_labels():
    world = replace(WORLDS[0], finds=0.5, errs=0.5, items=1_000)
    saved = [told(draw(world, np.random.default_rng((9, seed)))).narrower for seed in range(200)]
    assert np.mean(saved) < 0.0
    assert min(saved) < -0.005  # and it is told that it is wider


def test_labels_that_all_agree_are_no_proof():
    """A hundred labels, all as the judge says: an error of 3 % would show none in one of twenty such sets."""
    y = np.tile([0.0, 1.0], 50_000)
    corrected = told(Verdicts(y, labelled(y, 100)))
    assert corrected.follows == pytest.approx(1.0, abs=1e-3)
    assert corrected.interval.width > 0.05
    assert corrected.narrower > 0.5


def test_several_labels_of_an_item_are_one_value():
    assert by_item(np.array([1.0, 0.0, 1.0]), np.array([2, 2, 0]), 3)[[0, 2]].tolist() == [1.0, 0.5]
    assert np.isnan(by_item(np.array([1.0]), np.array([0]), 2)[1])
    y = np.random.default_rng(6).integers(0, 2, 200).astype(float)
    four = by_item(np.repeat(y, 4), np.repeat(np.arange(200), 4), 200)
    assert told(Verdicts(y, four)) == told(Verdicts(y, y))


def test_abstentions_bias_nothing():
    random = np.random.default_rng(8)
    y = (random.random(5_000) < 0.6).astype(float)
    machine = np.where((y == 0) & (random.random(5_000) < 0.7), NAN, y)
    corrected = told(Verdicts(machine, labelled(y, 400)))
    assert corrected.interval.holds(0.6)
    assert corrected.n_machine == np.count_nonzero(~np.isnan(machine))


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (np.tile([0.0, 1.0], 49), "98 labels"),
        (np.array([0.0] * 9 + [1.0] * 191), "about 9 labels of the rarer kind"),
        (np.ones(200), "all labels are the same"),
    ],
)
def test_too_few_labels_are_taken_alone_and_exactly(y, says):
    from scipy import stats

    corrected = told(Verdicts(np.full(len(y), 0.5), y))
    theirs = stats.binomtest(int(y.sum()), len(y)).proportion_ci(0.95)
    assert (corrected.interval.low, corrected.interval.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert says in corrected.words
    assert corrected.follows == 0.0


def test_the_bounds_of_what_is_few():
    assert (LEAST_LABELS, LEAST_RARE) == (100, 10)
    y = np.array([0.0] * 10 + [1.0] * 90)
    assert told(Verdicts(y, y)).reason is None
    assert "10 clusters" in told(Verdicts(y, y, clusters=np.arange(100) // 10)).words
    # Ten that lie in five clusters are not ten.
    assert told(Verdicts(y, y, clusters=np.arange(100) // 2)).reason is not None


def test_scores_of_any_scale_are_means_of_it():
    random = np.random.default_rng(10)
    y = random.integers(0, 5, 1_000) / 4
    machine = np.clip(y + random.normal(0, 0.2, 1_000), 0, 1)
    for n in (60, 300):
        one = told(Verdicts(machine, labelled(y, n)))
        other = told(Verdicts(1 + 4 * machine, 1 + 4 * labelled(y, n), span=(1, 5)))
        assert other.value == pytest.approx(1 + 4 * one.value)
        assert other.interval.width == pytest.approx(4 * one.interval.width)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="row an item"):
        Verdicts(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="span"):
        Verdicts(np.ones(2), np.array([3.0, NAN]))
    assert isinstance(true_mean(Verdicts(np.ones(2), np.array([NAN, NAN]))), Undefined)
    assert told(Verdicts(np.full(200, NAN), np.tile([0.0, 1.0], 100))).words.endswith("the judge gave no verdict")
