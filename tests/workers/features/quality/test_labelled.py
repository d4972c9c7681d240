"""From labels, verdicts and what a queue drew to arrays: with which probability each was drawn, and labelled."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headrace_workers.features.quality.assessment import assess, by_subject
from headrace_workers.features.quality.store import Sampled, Verdict
from headrace_workers.stats.estimates import Undefined
from headrace_workers.stats.ppi import Corrected

NEVER = 2**62


def label(job: object, value: float, probability: float | None = None, item: str | None = None) -> Any:
    return SimpleNamespace(
        job_id=str(job), kind="criterion", about="right", value=value, who="ann", said_at=1, probability=probability,
        item=item,
    )  # fmt: skip


def verdict(job: object, value: float | None, probability: float | None) -> Verdict:
    return Verdict(str(job), "criterion", "right", "v1", value, probability)


def world(weighted: bool) -> tuple[float, Corrected]:
    """Doubtful jobs, of which half are right, are all judged; one of ten of the others, of which nine tenths are.
    People label 3,000 of what was judged.
    """
    chance = np.random.default_rng(3)
    doubtful = chance.random(20_000) < 0.3
    right = chance.random(20_000) < np.where(doubtful, 0.5, 0.9)
    judged = doubtful | (chance.random(20_000) < 0.1)
    said = np.where(chance.random(20_000) < 0.8, right, ~right)
    verdicts = [
        verdict(n, float(said[n]) if judged[n] else None, (1.0 if doubtful[n] else 0.1) if weighted else None)
        for n in range(20_000)
    ]
    labels = [label(n, float(right[n])) for n in chance.choice(np.flatnonzero(judged), 3_000, replace=False)]
    (labelled,) = by_subject(labels, verdicts).values()
    mean = assess(labelled, NEVER).mean
    assert isinstance(mean, Corrected)
    return float(right.mean()), mean


@pytest.mark.integration
def test_labels_of_what_was_judged_count_by_the_chance_of_being_judged() -> None:
    """The mean of all jobs is found, though doubtful ones are judged more often; without the chances it is not."""
    truth, mean = world(weighted=True)
    assert mean.interval.low <= truth <= mean.interval.high
    assert mean.follows > 0.2
    truth, unweighted = world(weighted=False)
    assert unweighted.interval.high < truth


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([label("a", 1.0), label("b", 0.0)], [1.0, 0.25]),
        ([label("a", 1.0, 0.5), label("b", 0.0, 0.5)], [0.5, 0.5]),
        ([label("a", 1.0, 0.5), label("b", 0.0)], [0.5, np.nan]),
        ([label("a", 1.0), label("c", 0.0)], [np.nan, np.nan]),
        ([label("a", 1.0), label("d", 0.0)], [1.0, 1.0]),
    ],
)
def test_whose_probability_counts(labels: list[Any], expected: list[float]) -> None:
    """A label's own; else the verdict's, if all that people looked at was judged: 1 where all are."""
    verdicts = [verdict("a", 1.0, 1.0), verdict("b", 0.0, 0.25), verdict("c", None, 0.25), verdict("d", 1.0, None)]
    (labelled,) = by_subject(labels, verdicts).values()
    assert labelled.probability == pytest.approx(np.array(expected), nan_ok=True)


def test_what_was_not_judged_is_counted_by_code() -> None:
    verdicts = [
        verdict("a", 1.0, None),
        *(verdict(job, None, None)._replace(not_judged=code) for job, code in (("b", "order"), ("c", "order"))),
        verdict("d", None, None)._replace(not_judged="failed"),
        verdict("e", None, None),
    ]
    (labelled,) = by_subject([label("a", 1.0)], verdicts).values()
    assert assess(labelled, NEVER).not_judged == {"order": 2, "failed": 1}


def test_where_all_are_judged_nothing_is_drawn() -> None:
    (labelled,) = by_subject([label("a", 1.0)], [verdict("a", 1.0, None)]).values()
    assert labelled.judged is None
    assert np.isnan(labelled.probability).all()


def queue(rule: str, scores: list[float], answered: int, passes: float, probability: float = 0.5) -> tuple[Any, ...]:
    """A rule's draws of jobs with these scores: labels of the first so many, verdicts of all, and the draws."""
    jobs = [f"{rule}-{number}" for number in range(len(scores))]
    return (
        [label(job, passes, probability, f"item-{job}") for job in jobs[:answered]],
        [verdict(job, score, None) for job, score in zip(jobs, scores, strict=True)],
        [
            Sampled(f"item-{job}", job, rule, probability, "done" if number < answered else "open")
            for number, job in enumerate(jobs)
        ],
    )


def mean_of(*draws: tuple[Any, ...]) -> Corrected | Undefined:
    labels, verdicts, samples = ([row for draw in draws for row in draw[part]] for part in range(3))
    (labelled,) = by_subject(labels, verdicts, samples).values()
    return assess(labelled, NEVER).mean


def test_labels_count_by_the_response_rate_of_their_rule_and_quarter_of_scores() -> None:
    """What is labelled of 20 jobs stands for all 20, be it 10 or 5: by rule, and by quarter of the machine's value."""
    few, many = queue("low", [0.1] * 20, 5, 0.0), queue("audit", [0.1] * 20, 10, 1.0)
    by_rule = mean_of(few, many)
    assert isinstance(by_rule, Corrected)
    assert by_rule.value == pytest.approx(0.5)
    low, high = queue("a", [0.1] * 20, 5, 0.0), queue("b", [0.9] * 20, 10, 1.0)
    one_rule = (high[0], high[1], [item._replace(rule="a") for item in high[2]])
    by_quarter = mean_of(low, one_rule)
    assert isinstance(by_quarter, Corrected)
    assert by_quarter.value == pytest.approx(0.5)


def test_a_class_with_few_answers_joins_its_rule() -> None:
    """Two answers are too few for a rate: with the others of the rule that has none, or all of the rule."""
    two, none, many = queue("a", [0.1] * 10, 2, 0.0), queue("a2", [0.4] * 10, 3, 0.0), queue("a3", [0.9] * 10, 5, 1.0)
    merged = [(part[0], part[1], [item._replace(rule="a") for item in part[2]]) for part in (two, none, many)]
    found = mean_of(*merged)
    assert isinstance(found, Corrected)
    assert found.value == pytest.approx(1 / 3)  # 2 + 3 answers stand for 20 jobs
    found = mean_of(merged[0], merged[2])
    assert isinstance(found, Corrected)
    assert found.value == pytest.approx(5 / 7)  # a class of two would stand for half of the jobs


def test_an_item_that_two_people_labelled_is_one_answer() -> None:
    few, many = queue("low", [0.1] * 20, 5, 0.0), queue("audit", [0.1] * 20, 10, 1.0)
    found = mean_of(few, (many[0] * 2, many[1], many[2]))
    assert isinstance(found, Corrected)
    assert found.value == pytest.approx(0.5)


def test_a_job_that_two_rules_drew_counts_by_both_though_one_of_them_has_no_label() -> None:
    """Held jobs are all drawn and half of them labelled: an audit's label of another held job counts little more."""
    held = queue("held", [0.9] * 10, 5, 1.0, 1.0)
    audit = queue("audit", [0.1] * 10, 10, 0.0, 0.1)
    again = Sampled("again", "held-9", "audit", 0.1, "done")
    labels = [*held[0], *audit[0], label("held-9", 1.0, 0.1, "again")]
    (labelled,) = by_subject(labels, [*held[1], *audit[1]], [*held[2], *audit[2], again]).values()
    assert labelled.queued is not None
    by_job = labelled.queued.labelled
    assert by_job[0] == pytest.approx(0.5)
    assert by_job[9] == pytest.approx(1 - 0.5 * (1 - 0.1))


def test_a_job_that_was_held_again_is_drawn_once() -> None:
    """A label of either item is one of the job's."""
    labels, verdicts, samples = queue("held", [0.9] * 10, 5, 1.0, 1.0)
    again = [sample._replace(item=f"{sample.item}-again", state="open") for sample in samples]
    (labelled,) = by_subject(labels, verdicts, [*samples, *again]).values()
    assert labelled.queued is not None
    assert labelled.queued.labelled == pytest.approx(np.full(10, 0.5))
    assert labelled.queued.missing == {"open": 5}


def test_a_rule_of_which_nobody_labelled_anything_leaves_no_estimate_but_of_jobs_that_were_not_held() -> None:
    """Held jobs without labels are known, and left out of the mean; what another rule stands for is not."""
    heard = queue("audit", [0.1] * 10, 10, 1.0)
    found = mean_of(heard, queue("low", [0.9] * 7, 0, 0.0, 1.0))
    assert isinstance(found, Undefined)
    assert found.reason == "nobody has labelled any of the 7 answers that the rule low drew"
    assert isinstance(mean_of(heard, queue("low", [0.9] * 4, 0, 0.0)), Corrected)
    labels, verdicts, samples = queue("held", [0.9] * 7, 0, 0.0, 1.0)
    (left,) = by_subject([*heard[0], *labels], [*heard[1], *verdicts], [*heard[2], *samples]).values()
    assert len(left.machine) == 10
    assert isinstance(assess(left, NEVER).mean, Corrected)


def test_draws_without_a_label_are_counted_and_bound_the_mean() -> None:
    """By what became of them: nothing is assumed of who labels what."""
    labels, verdicts, samples = queue("audit", [0.1] * 300, 200, 1.0)
    labels[:50] = [label(item.job_id, 0.0, 0.5, item.item) for item in labels[:50]]
    samples[250:] = [sample._replace(state="skipped") for sample in samples[250:]]
    (labelled,) = by_subject(labels, verdicts, samples).values()
    said = assess(labelled, NEVER)
    assert said.missing == {"open": 50, "skipped": 50}
    assert said.bounds is not None
    assert said.bounds.low < 150 / 300 < said.bounds.low + 0.1
    assert said.bounds.high - 0.1 < 250 / 300 < said.bounds.high


def test_imported_labels_count_as_they_did() -> None:
    """Beside a queue's: by their own probability, or not at all together. So do labels of items of long ago."""
    drawn = queue("audit", [0.1] * 10, 10, 0.0)
    imported = [verdict("x", 0.9, None)]
    mixed = mean_of(drawn, ([label("x", 1.0, 0.05)], imported, []))
    assert isinstance(mixed, Corrected)
    assert mixed.value == pytest.approx(0.5)
    of_long_ago = mean_of(drawn, ([label("x", 1.0, 0.05, "item-x")], imported, []))
    assert of_long_ago == mixed
    uneven = mean_of(drawn, ([label("x", 1.0)], imported, []))
    assert isinstance(uneven, Undefined)
    assert "give it with all, or with none" in uneven.reason


def test_answers_without_a_verdict_are_asked_about_too() -> None:
    """Their response rate is that of all draws without one."""
    few, many = queue("low", [0.1] * 20, 5, 0.0), queue("audit", [0.1] * 20, 10, 1.0)
    found = mean_of((few[0], [], few[2]), (many[0], [], many[2]))
    assert isinstance(found, Corrected)
    assert found.value == pytest.approx(0.5)
