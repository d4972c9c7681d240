"""Why a job was given an earlier answer, or was not: what is read from receipts and steps that tests make by hand."""

from types import SimpleNamespace
from typing import Any

import pytest

from headrace_schemas import Answer, GenerationJob, Output, Usage
from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import type_of
from headrace_schemas.recall import Recall
from headrace_workers.core.ledger.job_status import JobView
from headrace_workers.core.pipeline.task import pack
from headrace_workers.features.cache.commands.explain import Explained, Gate, explain
from headrace_workers.features.cache.commands.views import explained_rows, gate_row

JOB = "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"
OTHER = "8d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"


def step(state: str = "done", stage: str = "recall", **more: Any) -> Any:
    rest = {"ordinal": 0, "reason": None, "waits_for": None, "woken_by": None, "ready_at": 0, "payload": None,
            "event_type": "headrace.job.generation.v1", "context": None, "begun_at": None, "worker": None}  # fmt: skip
    return SimpleNamespace(stage=stage, state=state, **{**rest, **more})


def found(*steps: Any, kind: str = "generation", **asks: Any) -> Explained:
    asked = GenerationJob.model_validate({"model": "echo", "prompt": "Name a river.", "cache": "semantic", **asks})
    job = SimpleNamespace(id=JOB, kind=kind, payload=encode_value(asked), terminal=None, terminal_type=None)
    view: Any = JobView(job, steps, 0)  # type: ignore[arg-type]
    told = explain(JOB, view, [], [])
    assert told is not None
    return told


def served(*steps: Any, **asks: Any) -> Explained:
    """What is said of a job that was given an answer: by likeness, where nothing else is said."""
    row = {"tier": "semantic", "similarity": 0.93, "first_job": OTHER, "entry_id": 7, "saved_tokens": 5,
           "saved_ms": 80.0, **{key: asks.pop(key) for key in ("tier", "similarity") if key in asks}}  # fmt: skip
    asked = GenerationJob.model_validate({"model": "echo", "prompt": "Name a river.", "cache": "semantic", **asks})
    job = SimpleNamespace(id=JOB, kind="generation", payload=encode_value(asked), terminal=None, terminal_type=None)
    told = explain(JOB, JobView(job, steps, 0), [SimpleNamespace(**row)], [])  # type: ignore[arg-type]
    assert told is not None
    return told


def handed_on(**found: Any) -> Any:
    """The step after recall, which has what was found in its context."""
    return step("ready", "generate", context=pack({"recall": found}, ()))


def written(recall: Recall) -> Any:
    """The step after generate, which has what was found in its event."""
    answer = Answer(text="x", finish_reason="stop", model="echo", quantization="none", recall=recall,
                    usage=Usage(prompt_tokens=1, completion_tokens=1))  # fmt: skip
    event = Output(job_id=JOB, tenant="default", answer=answer)
    return step("ready", "moderate", event_type=type_of(event), payload=encode_value(event))


@pytest.mark.parametrize("behind", [handed_on(similarity=0.97, refused="7 is not 8"),
                                    written(Recall(similarity=0.97, refused="7 is not 8"))])  # fmt: skip
def test_of_a_job_that_runs_it_is_read_from_its_steps(behind: Any):
    told = found(step(), behind)
    assert (told.outcome, told.similarity, told.refused) == ("miss", 0.97, "7 is not 8")
    assert told.why == "the nearest known question (similarity 0.970): 7 is not 8"


@pytest.mark.parametrize(
    ("steps", "asks", "why"),
    [
        ([step(), handed_on(refused="the question is empty")], {}, "the question is empty"),
        ([step(), handed_on(similarity=0.9)], {}, "was older than the job's `max_age`, or had just died"),
        ([step(), handed_on()], {}, "no answer to it was known"),
        ([step(), handed_on()], {"max_age": 60.0}, "no older than 60 s (its `max_age`)"),
        ([step(woken_by=OTHER), handed_on()], {}, f"it waited for job {OTHER}, whose answer did not come in time"),
        ([step()], {}, "no answer to it was known"),
    ],
)
def test_each_miss_has_its_reason(steps: Any, asks: Any, why: str):
    told = found(*steps, **asks)
    assert (told.outcome, why in told.why) == ("miss", True)


@pytest.mark.parametrize(
    ("steps", "outcome", "why"),
    [
        ([step("ready")], "open", "it has not been looked up yet: its step is ready"),
        ([step("waiting", reason="the ledger is away")], "open", "its step is waiting; the ledger is away"),
        ([step("leased", begun_at=1, worker="w@h")], "open", "by w@h"),
        ([step("parked", waits_for=OTHER, ready_at=9)], "waits", f"job {OTHER} is making the same answer"),
        ([step("dead", reason="poison")], "ended", "it was dead before it was looked up: poison"),
        ([step("cancelled")], "ended", "it was cancelled before it was looked up"),
        ([step("done"), step("ready", ordinal=1)], "open", "not been looked up yet"),
        ([step("ready", "judge")], "not asked", "it says `cache: semantic`"),
    ],
)
def test_what_has_not_come_to_a_miss_says_how_it_stands(steps: Any, outcome: str, why: str):
    told = found(*steps)
    assert (told.outcome, why in told.why) == (outcome, True)


def test_what_is_not_known_is_left_out_of_the_table():
    names = [name for name, _ in explained_rows(found(step("parked", waits_for=OTHER, ready_at=9)))]
    assert names == ["job", "outcome", "why", "cache", "waits for", "until"]


_ASKS = Gate("asks for it", "semantic", "exact, normalised or semantic", True)
_NEW = Gate("very same request", "not known", "answered, or being made", False)
_FORM = Gate("same normalised question", "not known", "answered", False)


@pytest.mark.parametrize(
    ("handed", "gates"),
    [
        ({"similarity": 0.7123, "threshold": 0.8, "refused": "similarity 0.712 is below 0.8"},
         [Gate("similarity", 0.7123, 0.8, False)]),
        ({"similarity": 0.97, "threshold": 0.8, "refused": "numbers: 7 is not 8"},
         [Gate("similarity", 0.97, 0.8, True), Gate("guards", "numbers: 7 is not 8", "none refuses", False)]),
        ({"similarity": 0.97, "refused": "numbers: 7 is not 8"},  # of an earlier version, which told no threshold
         [Gate("similarity", 0.97, None, True), Gate("guards", "numbers: 7 is not 8", "none refuses", False)]),
        ({"similarity": 0.71, "refused": "similarity 0.710 is below 0.8"}, [Gate("similarity", 0.71, None, False)]),
        ({"similarity": 0.97, "threshold": 0.8},
         [Gate("similarity", 0.97, 0.8, True), Gate("guards", "none refuses", "none refuses", True),
          Gate("the answer", "too old for `max_age`, or dead", "live", False)]),
        ({"refused": "it is empty"}, [Gate("by likeness", "it is empty", "a known question", False)]),
        ({"threshold": 0.8}, [Gate("by likeness", "no question is known", "a known question", False)]),
    ],
)  # fmt: skip
def test_a_miss_shows_the_gates_that_it_came_to(handed: dict[str, Any], gates: list[Gate]):
    told = found(step(), handed_on(**handed))
    assert list(told.gates) == [_ASKS, _NEW, _FORM, *gates]
    assert told.threshold == handed.get("threshold")


def test_a_hit_shows_what_was_asked_of_it():
    told = served(
        written(Recall(tier="semantic", similarity=0.93, threshold=0.8, age=12.5, first_job=OTHER)), max_age=60.0
    )
    assert (told.outcome, told.threshold, told.age_ms) == ("hit", 0.8, 12_500)
    assert list(told.gates) == [
        _ASKS, _NEW, _FORM, Gate("similarity", 0.93, 0.8, True), Gate("guards", "none refuses", "none refuses", True),
        Gate("age, s", 12.5, 60.0, True),
    ]  # fmt: skip
    assert [gate_row(gate)[1:] for gate in told.gates[3:]] == [
        ("0.93", "0.8", "yes"), ("none refuses", "none refuses", "yes"), ("12.5", "60", "yes"),
    ]  # fmt: skip


@pytest.mark.parametrize(("tier", "how"), [("exact", "answered before"), ("coalesced", "being made by another job")])
def test_the_very_same_request_passes_no_gate_of_likeness(tier: str, how: str):
    told = served(tier=tier, similarity=None)
    assert list(told.gates) == [
        _ASKS, Gate("very same request", how, "answered, or being made", True), Gate("age, s", None, None, True),
    ]  # fmt: skip
    assert gate_row(told.gates[-1]) == ("age, s", "–", "–", "yes")


def test_a_normalised_question_passes_no_gate_of_likeness():
    told = served(tier="normalised", similarity=None)
    form = Gate("same normalised question", "answered before", "answered", True)
    assert list(told.gates) == [_ASKS, _NEW, form, Gate("age, s", None, None, True)]


def test_what_was_not_looked_up_shows_one_gate():
    assert list(found(step("ready", "judge"), cache="off").gates) == [
        Gate("asks for it", "off", "exact, normalised or semantic", False)
    ]
    assert [gate.passed for gate in found(step("ready")).gates] == [True]
    assert list(found(step("parked", waits_for=OTHER, ready_at=9)).gates)[1:] == [
        Gate("same question", "being made by another job", "an answer that is there", False)
    ]
    assert [gate.found for gate in found(step(), handed_on(), cache="exact").gates] == ["exact", "not known"]


def test_of_what_nobody_knows_nothing_is_said():
    assert explain(JOB, None, [], []) is None
