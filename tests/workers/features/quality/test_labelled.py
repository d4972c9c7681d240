"""From labels and verdicts to arrays: with which probability each was drawn."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headrace_workers.features.quality.assessment import assess, by_subject
from headrace_workers.features.quality.ppi import Corrected
from headrace_workers.features.quality.store import Verdict

NEVER = 2**62


def label(job: object, value: float, probability: float | None = None) -> Any:
    return SimpleNamespace(
        job_id=str(job), kind="criterion", about="right", value=value, who="ann", said_at=1, probability=probability
    )


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
    (found,) = by_subject(labels, verdicts).values()
    mean = assess(found, NEVER).mean
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
    (found,) = by_subject(labels, verdicts).values()
    assert found.probability == pytest.approx(np.array(expected), nan_ok=True)


def test_what_was_not_judged_is_counted_by_code() -> None:
    verdicts = [
        verdict("a", 1.0, None),
        *(verdict(job, None, None)._replace(not_judged=code) for job, code in (("b", "order"), ("c", "order"))),
        verdict("d", None, None)._replace(not_judged="failed"),
        verdict("e", None, None),
    ]
    (found,) = by_subject([label("a", 1.0)], verdicts).values()
    assert assess(found, NEVER).not_judged == {"order": 2, "failed": 1}


def test_where_all_are_judged_nothing_is_drawn() -> None:
    (found,) = by_subject([label("a", 1.0)], [verdict("a", 1.0, None)]).values()
    assert found.judged is None
    assert np.isnan(found.probability).all()
