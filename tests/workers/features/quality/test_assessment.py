import numpy as np
import pytest

from headrace_workers.features.quality.assessment import Assessment, Labelled, assess
from headrace_workers.stats.detection_rates import DetectionRates
from headrace_workers.stats.estimates import Estimate, Undefined
from headrace_workers.stats.ppi import Corrected

SINCE = 1_000


def labelled(machine, human, *, who=None, said_at=None, probability=None, item=None):
    """Labels of the first items, one each, unless it is said of which."""
    count = len(human)
    return Labelled(
        np.asarray(machine, dtype=float),
        np.arange(count) if item is None else np.asarray(item),
        np.asarray(human, dtype=float),
        np.zeros(count, dtype=int) if who is None else np.asarray(who),
        np.zeros(count, dtype=int) if said_at is None else np.asarray(said_at),
        np.full(count, np.nan) if probability is None else np.asarray(probability, dtype=float),
    )


def of(*args, **fields) -> Assessment:
    return assess(labelled(*args, **fields), SINCE)


def value(estimate: Estimate | Undefined) -> float:
    assert isinstance(estimate, Estimate)
    return estimate.value


def test_what_people_say_of_few_corrects_what_the_judge_says_of_all():
    random = np.random.default_rng(1)
    truth = random.random(4_000) < 0.5
    machine = np.where(truth, 1.0, (random.random(4_000) < 0.5).astype(float))
    assessment = of(machine, truth[:400].astype(float))
    assert isinstance(assessment.mean, Corrected)
    assert assessment.mean.interval.holds(0.5)
    assert not assessment.mean.interval.holds(machine.mean())
    assert assessment.mean.narrower > 0
    assert (assessment.labels, assessment.verdicts, assessment.both, assessment.people) == (400, 4_000, 400, 1)
    assert isinstance(assessment.rates, DetectionRates)
    assert value(assessment.rates.recall) == 1.0
    assert 0.5 < value(assessment.rates.precision) < 0.8
    assert 0.6 < value(assessment.agreement) < 0.9


def test_few_labels_say_so_and_abstentions_are_no_verdicts():
    """People alone, with the reason; what the judge abstained from is in no rate."""
    assessment = of([1.0, 0.0, np.nan, np.nan, 1.0], [1.0, 0.0, 1.0])
    assert (assessment.verdicts, assessment.both, assessment.items_labelled) == (3, 2, 3)
    assert isinstance(assessment.mean, Corrected)
    assert assessment.mean.reason == "3 labels; 100 are needed"
    assert value(assessment.agreement) == 1.0


def test_people_who_contradict_each_other_are_counted():
    """Of items where both were said the mean alone is counted; α tells how far people agree."""
    assessment = of([1.0, 0.0, 1.0], [1, 0, 1, 1, 0, 0], item=[0, 0, 1, 1, 2, 2], who=[0, 1, 0, 1, 0, 1])
    assert (assessment.contested, assessment.both, assessment.people) == (1, 3, 2)
    assert isinstance(assessment.agreement, Estimate)
    assert (assessment.agreement.n, assessment.agreement.value) == (2, 0.0)
    assert -1 < value(assessment.among_people) < 1
    later = of([1.0, 1.0], [0, 1, 1, 1], item=[0, 0, 1, 1], who=[0, 1, 0, 1], said_at=[5, 6, 5, 6])
    assert later.contested == 1


def test_a_person_s_last_word_is_what_others_are_compared_with():
    said = {"item": [0, 0, 0, 1, 1], "who": [0, 0, 1, 0, 1]}
    assert value(of([1.0, 0.0], [0, 1, 1, 0, 0], said_at=[1, 2, 1, 1, 1], **said).among_people) == 1.0
    assert value(of([1.0, 0.0], [0, 1, 1, 0, 0], said_at=[2, 1, 1, 1, 1], **said).among_people) < 1.0


def test_uneven_labels_count_by_what_they_were_drawn_with():
    machine, human = [1.0] * 20 + [0.0] * 20, [1.0] * 10 + [0.0] * 10 + [0.0] * 20
    even = of(machine, human)
    drawn = of(machine, human, probability=[1.0] * 20 + [0.1] * 20)
    assert value(drawn.agreement) > value(even.agreement) + 0.1
    some = of(machine, human, probability=[1.0] * 39 + [np.nan])
    assert isinstance(some.mean, Undefined)
    assert isinstance(some.agreement, Undefined)
    assert "give it with all, or with none" in some.agreement.reason


def test_labels_of_one_job_by_two_draws_count_by_the_probability_of_either():
    """1 − (1 − 0.5)·(1 − 0.25) = 0.625: as much as the other job's single draw. The same draw twice is one draw."""
    assessment = of([1.0, 0.0], [1, 1, 1, 0], item=[0, 0, 0, 1], probability=[0.5, 0.25, 0.25, 0.625])
    assert isinstance(assessment.mean, Corrected)
    assert assessment.mean.value == pytest.approx(0.5)


def test_degrees_are_averaged_and_not_counted_as_yes_or_no():
    assessment = of([0.5, 0.9, 0.1], [0.7, 1.0, 0.0])
    assert isinstance(assessment.mean, Corrected)
    assert isinstance(assessment.rates, Undefined)
    assert isinstance(assessment.drift, Undefined)


def test_a_score_that_means_what_it_says_has_an_ece_as_by_chance():
    random = np.random.default_rng(2)
    said = random.random(2_000)
    honest = of(said, (random.random(2_000) < said).astype(float)).reliability
    boasting = of(np.full(200, 0.9), np.tile([0.0, 1.0], 100)).reliability
    assert not isinstance(honest, Undefined)
    assert not isinstance(boasting, Undefined)
    assert honest.ece < 2 * honest.if_calibrated
    assert boasting.ece == pytest.approx(0.4)
    assert isinstance(of([1.0, 0.0], [1.0, 0.0]).reliability, Undefined)


def test_verdicts_that_have_become_worse_raise_an_alarm():
    machine, human = np.ones(400), np.concatenate([np.ones(200), np.tile([0.0, 1.0], 100)])
    said_at = np.repeat([0, SINCE], 200)
    worse = of(machine, human, said_at=said_at).drift
    assert not isinstance(worse, Undefined)
    assert worse.says == "worse"
    for other, reason in (
        (of(machine, human).drift, "no fresh labels"),
        (of(machine, human, said_at=np.full(400, SINCE)).drift, "no labels of before"),
        (of(machine, human, said_at=said_at, probability=np.repeat([0.5, 1.0], 200)).drift, "stratum"),
    ):
        assert isinstance(other, Undefined)
        assert reason in other.reason
