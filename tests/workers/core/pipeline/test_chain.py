"""Chains of models: a step whose model fails goes to the next of its job, and knows what was tried."""

import random

import pytest
from tests.workers.core.pipeline.claimed import BEHIND, GENERATE, JOB_ID, NOW, row
from tests.workers.runtime.bridge.records import generation

from headrace_schemas import Category, HeadraceError
from headrace_schemas.codec import encode_value
from headrace_schemas.events import Attempt
from headrace_schemas.job import Lane
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.ledger.outcome import Dead, Retry, Unanswered
from headrace_workers.core.pipeline.chain import Link, pin, tried_in
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.settle import Conditions, settle, task_of
from headrace_workers.core.pipeline.task import Task, pack, unpack

CHAIN = generation(model=("a", "b", "c"))


def failed(model, context=None, *, chain=CHAIN, avoided=(), category=Category.REROUTABLE, again=False, **changes):
    """The step after a failure of this model: what the ledger is to write."""
    kept = pack(context, ()) if context else None
    given = row(job_payload=encode_value(chain), context=kept, **changes)
    task = task_of(given, NOW)
    assert isinstance(task, Task)
    error = HeadraceError("it is down")
    error.category = category
    failure = Unanswered(error, Attempt(model=model, category=category, reason="it is down", ms=5), again=again)
    pipeline = Pipeline((GENERATE, *BEHIND), avoided=lambda _tenant: frozenset(avoided))
    started = Started(1, f"model.{model}", "generate", "g", False, 12, NOW, (given,))
    return settle(started, given, task, failure, Conditions(pipeline, 3, random.Random(1), ran_ms=250.0))


def context_of(settled: StepResult):
    return unpack(settled.context)[0]


def test_a_failed_step_goes_to_the_next_model_at_once():
    pinned = pin([Link("a", 100), Link("b", 130), Link("c", 90)])
    first = failed("a", pinned, tokens=110)
    assert (first.delay_ms, first.queue, first.group_key) == (0, "model.b", "generate|b|256")
    assert first.tokens == 140
    second = failed("b", context_of(first), attempts=2, tokens=140)
    assert (second.delay_ms, second.queue, second.tokens) == (0, "model.c", 100)
    assert [attempt.model for attempt in tried_in(context_of(second))] == ["a", "b"]


def test_a_model_that_is_to_be_asked_once_more_is_asked_before_the_next():
    again = failed("a", again=True)
    assert (again.queue, isinstance(again.outcome, Retry)) == (None, True)
    assert again.delay_ms <= 1_000
    context = context_of(again)
    moved = failed("a", context, attempts=2)
    assert moved.queue == "model.b"
    assert failed("a", again=True, attempts=3).queue == "model.b"
    assert isinstance(failed("c", context_of(moved), attempts=4).outcome, Retry)


def test_the_last_model_has_the_whole_retry_schedule():
    context = {}
    for number, model in enumerate(("a", "b"), 1):
        context = context_of(failed(model, context, attempts=number))
    for attempts in (3, 4):
        again = failed("c", context, attempts=attempts)
        assert (again.queue, isinstance(again.outcome, Retry)) == (None, True)
        context = context_of(again)
    dead = failed("c", context, attempts=5).outcome
    assert isinstance(dead, Dead)
    assert "given up after 5 attempts" in dead.reason
    assert "a (reroutable: it is down), b (reroutable: it is down)" in dead.reason


def test_a_passing_error_stays_with_its_model():
    later = failed("a", category=Category.TRANSIENT)
    assert (later.queue, isinstance(later.outcome, Retry)) == (None, True)
    assert [attempt.model for attempt in tried_in(context_of(later))] == ["a"]


def test_models_that_are_avoided_are_passed_over_in_their_order():
    assert failed("a", avoided={"b"}).queue == "model.c"
    assert failed("a", avoided={"b", "c"}).queue is None
    back = failed("c", avoided={"a", "c"}, attempts=1)
    assert back.queue == "model.b"
    assert back.delay_ms is not None
    assert failed("c", avoided={"a", "b", "c"}).queue is None


def test_a_pinned_chain_holds_whatever_the_catalogue_says():
    named = generation(model="careful")
    context = pack(pin([Link("a"), Link("b", skipped="too small"), Link("c")]), ())
    task = task_of(row(job_payload=encode_value(named), context=context))
    assert isinstance(task, Task)
    assert task.job.chain == task.event.chain == ("a", "c")
    assert failed("a", pin([Link("a"), Link("b", skipped="too small"), Link("c")]), chain=named).queue == "model.c"


def test_no_attempt_begins_behind_the_deadline():
    dead = failed("a", deadline=NOW + 200).outcome
    assert isinstance(dead, Dead)
    assert dead.category is Category.EXPIRED
    assert failed("a", deadline=NOW + 300).queue == "model.b"


def test_a_task_knows_how_long_its_job_has_left():
    assert task_of(row(), NOW).seconds_left is None
    assert task_of(row(deadline=NOW + 2_500), NOW).seconds_left == 2.5


@pytest.mark.parametrize(("lane", "queue"), [(Lane.INTERACTIVE, "model.b"), (Lane.BATCH, "model.a")])
def test_only_interactive_jobs_are_led_around_a_model(lane, queue):
    pipeline = Pipeline((GENERATE, *BEHIND), avoided=lambda _tenant: {"a"})
    job = generation(model=("a", "b"), lane=lane)
    route = pipeline.next_step(JOB_ID, job, job)
    assert route is not None
    assert (route.queue, route.model) == (queue, queue.removeprefix("model."))
    alone = pipeline.next_step(JOB_ID, generation(model="a"), generation(model="a"))
    assert alone is not None
    assert alone.queue == "model.a"


def test_every_model_of_a_chain_is_one_that_the_job_may_need():
    assert Pipeline().models_of(CHAIN) == {"a", "b", "c"}
