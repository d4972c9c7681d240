from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.workers.features.evals.runs import made, outcomes_of

from headrace_schemas.job import derive_job_id
from headrace_workers.features.evals.analysis import Analysis, analyse
from headrace_workers.features.evals.plan import Plan
from headrace_workers.features.evals.report import markdown, summary
from headrace_workers.stats.estimates import Estimate, Undefined
from headrace_workers.stats.ppi import Corrected

ITEMS = 600


def truth(item: int, variant: int) -> float:
    return float(item % 10 < 5 + variant)


def judged(item: int, variant: int) -> float:
    """The judge finds each answer of B right, and of A all but those of each tenth item."""
    return 1.0 if variant else float(item % 10 < 9)


def label(plan: Plan, item: int, variant: int, value: float, who: str = "ann", **more: Any) -> Any:
    job_id = derive_job_id(plan.tenant, plan.key_of(plan.line_of(item, 0, variant)))
    said = {"job_id": job_id, "kind": "criterion", "about": "right", "value": value, "who": who, "probability": None}
    return SimpleNamespace(**(said | more))


def found(plan: Plan, labels: list[Any]) -> Analysis:
    outcomes = outcomes_of(plan, lambda item, _, variant: (judged(item, variant), 1.0))
    return analyse(plan, outcomes, labels)


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return made(tmp_path, [{"q": f"question {number}"} for number in range(ITEMS)])


def test_the_judge_s_error_is_in_what_people_would_say(plan: Plan) -> None:
    chance = np.random.default_rng(3)
    drawn = chance.choice(ITEMS, ITEMS // 4, replace=False)
    labels = [label(plan, int(item), variant, truth(int(item), variant)) for item in drawn for variant in (0, 1)]
    analysis = found(plan, labels)
    (people,) = analysis.people
    assert (people.criterion, people.labels, people.people) == ("right", ITEMS // 2, 1)
    for variant, wanted in enumerate((0.5, 0.6)):
        mean, scored = people.means[variant], analysis.scores[variant].mean
        assert isinstance(mean, Corrected)
        assert isinstance(scored, Estimate)
        assert mean.interval.holds(wanted)
        assert not scored.interval.holds(wanted)
    (difference,) = people.differences
    assert isinstance(difference, Corrected)
    assert difference.interval.holds(0.1)
    assert difference.interval.low > -0.1  # narrower than the two means would make it
    assert isinstance(people.among_people, Undefined)
    assert isinstance(people.kappa, Estimate)
    assert people.kappa.value < 0.3
    document = summary(plan, analysis, None)["people"][0]
    assert document["means"]["B"]["value"] == people.means[1].value  # type: ignore[union-attr]
    assert document["among_people"] == {"reason": "one person labelled"}
    assert "## What people say" in markdown(plan, analysis, None)


def test_what_people_say_among_themselves_is_the_ceiling(plan: Plan) -> None:
    both = [label(plan, item, 0, float(item % 2), who) for item in range(40) for who in ("ann", "bob")]
    others = ({"job_id": "of another run"}, {"about": "polite"}, {"kind": "category"})
    passed_over = [label(plan, 1, 0, 0.0, "cat", **other) for other in others]
    (people,) = found(plan, [*both, label(plan, 0, 0, 1.0, "bob"), *passed_over]).people
    assert (people.labels, people.people) == (81, 2)
    assert isinstance(people.among_people, Estimate)
    assert 0.9 < people.among_people.value < 1.0
    assert people.among_people.n == 40


def test_labels_that_were_drawn_unevenly_give_no_mean(plan: Plan) -> None:
    """They would count alike, and should not."""
    labels = [label(plan, item, 0, 1.0, probability=0.1 if item else 0.2) for item in range(20)]
    (people,) = found(plan, labels).people
    assert isinstance(people.means[0], Undefined)
    assert "different probabilities" in people.means[0].reason


def test_without_labels_nothing_is_said(plan: Plan) -> None:
    analysis = found(plan, [])
    assert analysis.people == ()
    assert summary(plan, analysis, None)["people"] == []
    assert "people say" not in markdown(plan, analysis, None)
