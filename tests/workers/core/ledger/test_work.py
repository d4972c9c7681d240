"""What a worker does itself after a step is written with it: moderation and judging, on both databases."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select, update
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import generation

from headrace_producers import KafkaSettings
from headrace_schemas import Answer, Category, Moderated, ModerationVerdict, Output, Rubric, Usage
from headrace_schemas.codec import decode_value
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.ledger.outcome import Dead, Done, Retry
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import STEPS
from headrace_workers.features.judging.stage import judge
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.worker.work import Work


def settings():
    return Settings(home=Path(), kafka=KafkaSettings.at("none:1"), redis="redis://none:1/0", ledger="", max_attempts=3)


def work(**steps):
    """Work of these stages, each on the queue of its name; by default moderation that passes all, and the judge."""
    known = {"moderate": pass_all, "judge": partial(judge, generator=None)} | steps
    return Work(Pipeline(), {(name, name): step for name, step in known.items() if step}, settings(), SystemClock())


def pass_all(tasks):
    verdict = ModerationVerdict(action="allow", findings=())
    return [Done(Moderated(**dict(task.event), moderation=verdict)) for task in tasks]


def answer_all(tasks):
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    answer = Answer(text="t", finish_reason="stop", model="echo", quantization="none", usage=usage)
    return [Done(Output(job_id=task.job_id, tenant="default", answer=answer)) for task in tasks]


def begin(ledger, queue, lane=0):
    (claim,) = ledger.claim([Wanted(queue, lane, 1, 32)], lease_ms=60_000, sender="b").claims
    return ledger.start(claim.id, worker="w", lease_ms=60_000)


def write(ledger, started, settled):
    assert ledger.complete(started.claim_id, settled, ran_ms=1, quantum_ms=5_000) is not None


@pytest.fixture
def answered(ledger):
    """Takes jobs in and answers them; their ids, and their group in the hands of a worker that moderates."""

    def answer(*jobs):
        ids = take_in(ledger, list(jobs))
        started = begin(ledger, "model.echo")
        answerer = Work(Pipeline(), {("model.echo", "generate"): answer_all}, work()._settings, SystemClock())
        write(ledger, started, answerer.do(started))
        return ids, begin(ledger, "moderate")

    return answer


def states(ledger, *columns):
    """The state of each step, by job and stage, and of what else is asked."""
    rows = ledger.read(select(STEPS.c.job_id, STEPS.c.stage, STEPS.c.state, *columns))
    return {(row.job_id, row.stage): row.state if not columns else tuple(row)[2:] for row in rows}


def told(ledger, job_id):
    return [row.record.headers["ce_type"] for row in ledger.outbox(99) if row.record.key == job_id]


def test_what_follows_is_done_and_written_at_once(ledger, answered):
    (job_id,), started = answered(generation())
    write(ledger, started, work().do(started))
    assert told(ledger, job_id) == ["headrace.output.v1", "headrace.moderated.v1", "headrace.result.v1"]
    assert states(ledger, STEPS.c.attempts, STEPS.c.payload) == {
        (job_id, stage): ("done", 1, None) for stage in ("generate", "moderate", "judge")
    }
    ((kind, value),) = ledger.terminals([job_id]).values()
    stages = decode_value(kind, value).stages
    assert [(stage.stage, stage.attempt, stage.group_size) for stage in stages] == [
        ("generate", 1, 1), ("moderate", 1, 1), ("judge", 1, 1),
    ]  # fmt: skip
    assert (stages[-1].waited_ms, ledger.overview().claims) == (0, 0)


def test_a_model_does_nothing_more_in_the_same_breath(ledger):
    """Its answer is written before anything else is tried with it, also by a worker that does all."""
    (job_id,) = take_in(ledger, [generation()])
    started = begin(ledger, "model.echo")
    everything = Work(
        Pipeline(), {("model.echo", "generate"): answer_all} | work()._steps, work()._settings, SystemClock()
    )
    write(ledger, started, everything.do(started))
    assert states(ledger) == {(job_id, "generate"): "done", (job_id, "moderate"): "ready"}


def test_what_a_model_must_judge_is_left_to_it(ledger, answered):
    (plain, rubric), started = answered(generation(), generation(criteria=(Rubric(question="Kind?", model="echo"),)))
    write(ledger, started, work().do(started))
    assert (states(ledger)[plain, "judge"], states(ledger)[rubric, "rubric"]) == ("done", "ready")
    assert told(ledger, rubric) == ["headrace.output.v1", "headrace.moderated.v1"]
    (row,) = begin(ledger, "model.echo").steps
    assert (row.job_id, row.attempts, row.event_type) == (rubric, 1, "headrace.moderated.v1")


def test_what_another_does_is_left_to_it(ledger, answered):
    (job_id,), started = answered(generation())
    write(ledger, started, work(judge=None).do(started))
    assert states(ledger)[job_id, "judge"] == "ready"


def test_what_is_not_possible_yet_waits_alone(ledger, answered):
    (job_id,), started = answered(generation())
    busy = work(judge=lambda tasks: [Retry("busy") for _ in tasks])
    write(ledger, started, busy.do(started))
    assert told(ledger, job_id) == ["headrace.output.v1", "headrace.moderated.v1"]
    assert states(ledger, STEPS.c.attempts, STEPS.c.reason)[job_id, "judge"] == ("waiting", 1, "busy")
    assert states(ledger)[job_id, "moderate"] == "done"
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.state == "waiting").values(ready_at=0))
    ledger.reap(3)
    again = begin(ledger, "judge")
    write(ledger, again, work().do(again))
    assert told(ledger, job_id)[2:] == ["headrace.result.v1"]
    ((kind, value),) = ledger.terminals([job_id]).values()
    assert [stage.attempt for stage in decode_value(kind, value).stages] == [1, 1, 2]


def test_who_dies_behind_a_step_is_told_after_it(ledger, answered):
    (bad, good), started = answered(generation(prompt="bad"), generation())

    def judging(tasks):
        done = judge(tasks, generator=None)
        return [
            Dead(Category.PERMANENT, "no") if task.job.prompt == "bad" else outcome
            for task, outcome in zip(tasks, done, strict=True)
        ]

    write(ledger, started, work(judge=judging).do(started))
    assert told(ledger, bad) == ["headrace.output.v1", "headrace.moderated.v1", "headrace.dead.v1"]
    assert told(ledger, good)[-1] == "headrace.result.v1"
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.stage, letter.attempts, letter.reason) == (bad, "judge", 1, "no")
    assert states(ledger) == {
        (bad, "generate"): "done", (bad, "moderate"): "done", (bad, "judge"): "dead",
        (good, "generate"): "done", (good, "moderate"): "done", (good, "judge"): "done",
    }  # fmt: skip
    assert ledger.overview().claims == 0


def test_what_raises_behind_a_step_costs_its_neighbours_nothing(ledger, answered):
    (bad, good), started = answered(generation(prompt="bad"), generation())

    def judging(tasks):
        if any(task.job.prompt == "bad" for task in tasks):
            raise ValueError("odd")
        return judge(tasks, generator=None)

    write(ledger, started, work(judge=judging).do(started))
    assert (states(ledger)[bad, "judge"], states(ledger)[good, "judge"]) == ("waiting", "done")


def test_a_job_that_is_cancelled_meanwhile_gets_nothing(ledger, answered):
    (gone, stays), started = answered(generation(), generation())

    def moderating(tasks):
        assert ledger.cancel(Cancellation(gone, "default", "")) == "cancelled"
        return pass_all(tasks)

    write(ledger, started, work(moderate=moderating).do(started))
    assert told(ledger, gone) == ["headrace.output.v1", "headrace.job.cancelled.v1"]
    assert told(ledger, stays)[-1] == "headrace.result.v1"
    assert states(ledger) == {
        (gone, "generate"): "done", (gone, "moderate"): "cancelled",
        (stays, "generate"): "done", (stays, "moderate"): "done", (stays, "judge"): "done",
    }  # fmt: skip


def test_what_is_too_late_for_the_next_step_is_left(ledger, answered):
    (job_id,), started = answered(generation())
    late = replace(started, steps=tuple(row._replace(deadline=started.now) for row in started.steps))

    class Later(SystemClock):
        def monotonic(self):
            self.seconds = getattr(self, "seconds", 0) + 5
            return self.seconds

    doing = Work(Pipeline(), work()._steps, work()._settings, Later())
    (item,) = doing.do(late)
    assert isinstance(item.outcome, Done)
    assert ([step.stage for step in item.following], item.following[0].tried, item.end) == (["judge"], None, None)
    assert item.job_id == job_id
