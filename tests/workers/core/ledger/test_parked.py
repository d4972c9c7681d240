"""Steps that wait for another job or for a person, jobs that go round, and what is written with a step."""

from dataclasses import dataclass, field

import pytest
from sqlalchemy import select, update
from tests.workers.core.ledger.test_work import settings
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import evaluation, generation

from headrace_schemas import Category, EvaluationJob, Topic
from headrace_schemas.codec import decode_value
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger import job_ends
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.ledger.outcome import Dead, Done, Held, JobEnd, Retry, Row, Wait
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import Stage
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS, POSITIONS, RELEASED, STEPS
from headrace_workers.features.judging.stage import judge
from headrace_workers.runtime.worker.work import Work

_STAGES = {stage.name: stage for stage in Pipeline().stages}
GENERATE, MODERATE, RUBRIC, JUDGE = (_STAGES[name] for name in ("generate", "moderate", "rubric", "judge"))


@dataclass
class Bench:
    """A pipeline of the test's own on a ledger: one stage, `mine`, stands before the judge."""

    ledger: object
    step: object
    asked: list = field(default_factory=list)

    def run(self, queue="mine", lane=0):
        """Run the first group of a queue; the states of all steps."""
        claims = self.ledger.claim([Wanted(queue, lane, 1, 32)], lease_ms=60_000, sender="b").claims
        assert claims, f"nothing is ready in {queue}"
        started = self.ledger.start(claims[0].id, worker="w", lease_ms=60_000)
        mine = Stage(name="mine", order=65, takes=(EvaluationJob,), step=self.step)
        pipeline = Pipeline((GENERATE, MODERATE, mine, RUBRIC, JUDGE))
        steps = {("mine", "mine"): self._seen, ("judge", "judge"): judge}
        settled = Work(pipeline, steps, settings(), SystemClock()).do(started)
        assert self.ledger.complete(started.claim_id, settled, ran_ms=1, quantum_ms=5_000) is not None
        return self.states()

    def _seen(self, tasks):
        self.asked += tasks
        return self.step(tasks)

    def states(self):
        """State of each step, by job, stage and round."""
        columns = (STEPS.c.job_id, STEPS.c.stage, STEPS.c.ordinal, STEPS.c.state)
        return {(row.job_id, row.stage, row.ordinal): row.state for row in self.ledger.read(select(*columns))}

    def end(self, job_id):
        assert self.ledger.cancel(Cancellation(job_id, "default", "enough")) in ("cancelled", "cancelled_ahead")

    def row(self, job_id):
        query = select(STEPS).where(STEPS.c.job_id == job_id, STEPS.c.stage == "mine")
        return self.ledger.read(query)[0]


@pytest.fixture
def begun(ledger):
    """Takes evaluations in, and puts them before the stage `mine` with this step."""

    def begin(step, *jobs):
        ids = take_in(ledger, list(jobs))
        with writing(ledger.engine) as tx:
            place = {"queue": "mine", "stage": "mine", "group_key": "mine"}
            tx.execute(update(STEPS).where(STEPS.c.job_id.in_(ids)).values(**place))
        return Bench(ledger, step), ids

    return begin


def waits_for(other):
    """A step that waits for a job, and passes on when that woke it."""

    def step(tasks):
        return [Done() if task.woken_by == other else Wait(JobEnd(other), "it asks the same") for task in tasks]

    return step


def test_a_step_waits_for_another_job(ledger, begun):
    (other,) = take_in(ledger, [generation()])
    bench, (job,) = begun(waits_for(other), evaluation())
    assert bench.run()[job, "mine", 0] == "parked"
    row = bench.row(job)
    assert (row.attempts, row.claim_id, row.waits_for, row.reason) == (0, None, other, "it asks the same")
    ledger.reap(3)
    assert bench.row(job).state == "parked"
    bench.end(other)
    assert (bench.row(job).state, bench.row(job).waits_for) == ("ready", None)
    assert bench.run() == {(job, "mine", 0): "done", (job, "judge", 0): "done", (other, "generate", 0): "cancelled"}
    assert [task.attempt for task in bench.asked] == [1, 1]


def test_who_waits_for_what_has_ended_already_goes_on_at_once(ledger, begun):
    (other,) = take_in(ledger, [generation()])
    bench, (job,) = begun(waits_for(other), evaluation())
    bench.end(other)
    assert bench.run()[job, "mine", 0] == "ready"


def test_a_wake_up_that_was_lost_is_made_good(ledger, begun):
    (other,) = take_in(ledger, [generation()])
    bench, (job,) = begun(waits_for(other), evaluation())
    bench.run()
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).where(JOBS.c.id == other).values(state="done", ended_at=1))
    ledger.reap(3)
    assert bench.row(job).state == "ready"


def test_an_end_wakes_a_bounded_number_and_the_others_soon(ledger, begun, monkeypatch):
    """However many wait for it: what takes longer than the ledger has for a statement would never be written."""
    monkeypatch.setattr(job_ends, "WOKEN_AT_ONCE", 2)
    (other,) = take_in(ledger, [generation()])
    bench, jobs = begun(waits_for(other), *(evaluation(input=str(n)) for n in range(5)))
    bench.run()
    bench.end(other)
    for woken in (2, 4, 5):
        assert [bench.row(job).state for job in jobs].count("ready") == woken
        assert ledger.due().steps == (woken < 5)
        ledger.reap(3)


@pytest.mark.parametrize("how", ["dead", "done"])
def test_every_kind_of_end_wakes(ledger, begun, how):
    bench, (other,) = begun(lambda tasks: [Done() for _ in tasks], evaluation(input="other"))
    if how == "dead":
        with writing(ledger.engine) as tx:
            tx.execute(update(STEPS).values(state="held"))
    waiting, (job,) = begun(waits_for(other), evaluation(priority=0, lane="batch"))
    assert waiting.run(lane=1)[job, "mine", 0] == "parked"
    if how == "dead":
        assert ledger.withhold([other], "no") == {other}
    else:
        bench.run()
    assert waiting.row(job).state == "ready"


def test_a_step_is_held_until_a_person_releases_it(ledger, begun):
    bench, (job,) = begun(
        lambda tasks: [Done() if task.woken_by == RELEASED else Held("is this right?") for task in tasks], evaluation()
    )
    assert bench.run()[job, "mine", 0] == "held"
    ((found),) = ledger.held()
    assert (found.job_id, found.tenant, found.stage, found.reason) == (job, "default", "mine", "is this right?")
    ledger.reap(3)
    assert bench.row(job).state == "held"
    assert ledger.release_held([job, "unknown"]) == 1
    assert ledger.held() == []
    assert bench.run() == {(job, "mine", 0): "done", (job, "judge", 0): "done"}
    assert ledger.release_held([job]) == 0


def test_what_needs_no_person_is_tried_again_by_itself(ledger, begun):
    """When its time has come, without an attempt; since when it is held is kept, and it is told once."""
    down = True
    bench, (job,) = begun(
        lambda tasks: [Held("down", needs_person=False) if down else Done() for _ in tasks], evaluation()
    )
    for since in (0, 7):
        assert bench.run()[job, "mine", 0] == "held"
        ledger.reap(3)
        assert bench.row(job).state == "held"
        assert not since or bench.row(job).held_at == since
        with writing(ledger.engine) as tx:
            tx.execute(update(STEPS).values(ready_at=1, held_at=7))
        assert ledger.due().steps
        ledger.reap(3)
        assert bench.row(job).state == "ready"
    assert [row.held_at for row in ledger.read(select(STEPS.c.held_at))] == [7]
    assert [row.record.topic for row in ledger.outbox(10)] == [Topic.HELD]
    down = False
    assert bench.run()[job, "mine", 0] == "done"
    assert {task.attempt for task in bench.asked} == {1}


def test_what_is_held_behind_another_step_is_told_as_well(ledger, begun):
    bench, (job,) = begun(
        lambda tasks: [Held("?") if task.ordinal else Done(to="mine") for task in tasks], evaluation()
    )
    assert bench.run()[job, "mine", 1] == "held"
    assert [row.record.topic for row in ledger.outbox(10)] == [Topic.HELD]
    (row,) = ledger.held()
    assert row.since > 0


def test_what_is_released_and_held_again_is_told_again(ledger, begun):
    """It is another question: since then it is held."""
    bench, (job,) = begun(lambda tasks: [Held("?") for _ in tasks], evaluation())
    for _ in range(2):
        bench.run()
        assert ledger.release_held([job]) == 1
    rows = ledger.outbox(10)
    assert len({row.record.headers["ce_id"] for row in rows}) == 2


def test_what_nobody_was_asked_about_is_not_released(ledger, begun):
    bench, (job,) = begun(lambda tasks: [Held("down", needs_person=False) for _ in tasks], evaluation())
    bench.run()
    assert ledger.release_held([job]) == 1
    bench.run()
    assert [task.woken_by for task in bench.asked] == [None, None]


def test_what_is_held_too_long_is_withheld(ledger, begun):
    bench, _ = begun(lambda tasks: [Held("?", task.job.input == "b") for task in tasks],
                     evaluation(), evaluation(input="b"))  # fmt: skip
    bench.run()
    assert ledger.withhold_late(60_000) == 0
    assert ledger.overview().held == 2
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(held_at=STEPS.c.held_at - 60_001))
    assert ledger.withhold_late(60_000) == 2
    assert {letter.reason for letter in ledger.dead(DeadFilter())} == {
        "withheld: it was held for longer than HEADRACE_HOLD, 60 seconds"
    }
    assert {letter.category for letter in ledger.dead(DeadFilter())} == {Category.EXPIRED}
    assert ledger.overview().held == 0


def test_what_was_withheld_late_and_is_replayed_is_held_anew(ledger, begun):
    bench, (job,) = begun(lambda tasks: [Held("?") for _ in tasks], evaluation())
    bench.run()
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(held_at=STEPS.c.held_at - 60_001))
    assert ledger.withhold_late(60_000) == 1
    assert ledger.replay(DeadFilter()) == (1, 0)
    assert (bench.row(job).state, bench.row(job).held_at, bench.row(job).reason) == ("ready", None, None)
    assert bench.run()[job, "mine", 0] == "held"
    assert ledger.withhold_late(60_000) == 0
    assert [row.record.topic for row in ledger.outbox(10)] == [Topic.HELD, Topic.DEAD, Topic.HELD]
    assert len({row.record.headers["ce_id"] for row in ledger.outbox(10)}) == 3


def test_what_a_person_withholds_is_dead(ledger, begun):
    bench, (job, other) = begun(
        lambda tasks: [Held("?") if task.job.input == "a" else Done() for task in tasks],
        evaluation(), evaluation(input="b"),
    )  # fmt: skip
    (third,) = take_in(ledger, [generation()])
    bench.run()
    assert ledger.withhold([job, other, third], "not like this") == {job}
    assert bench.row(job).state == "dead"
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.category, letter.reason) == (job, Category.PERMANENT, "withheld: not like this")
    assert ledger.release_held([job]) == 0


@pytest.mark.parametrize("outcome", [Wait(JobEnd("nobody"), "?"), Held("?")], ids=["waits", "held"])
def test_a_deadline_ends_what_waits(ledger, begun, outcome):
    bench, (job,) = begun(lambda tasks: [outcome for _ in tasks], evaluation())
    bench.run()
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(deadline=1))
    ledger.reap(3)
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.category) == (job, Category.EXPIRED)
    assert bench.row(job).state == "dead"


def test_a_wait_for_a_time_ends_then(ledger, begun):
    def step(tasks):
        return [Wait(None, "later", at_most=0.0 if task.job_id == jobs[0] else 60.0) for task in tasks]

    bench, jobs = begun(step, evaluation(), evaluation())
    bench.run()
    ledger.reap(3)
    first, second = (bench.row(job) for job in jobs)
    assert (first.state, first.attempts) == ("ready", 0)
    assert second.state == "parked"


def test_a_job_goes_round_again(ledger, begun):
    def step(tasks):
        return [Done(to="mine") if task.ordinal == 0 else Done() for task in tasks]

    bench, (job,) = begun(step, evaluation())
    assert bench.run() == {(job, "mine", 0): "done", (job, "mine", 1): "done", (job, "judge", 1): "done"}
    (row,) = ledger.read(select(JOBS.c.terminal).where(JOBS.c.id == job))
    receipt = decode_value("headrace.result.v1", row.terminal)
    assert [record.stage for record in receipt.stages] == ["mine", "judge"]  # two rounds of a stage are one record


def test_what_a_step_writes_is_written_with_it(ledger, begun):
    place = {"topic": "t", "partition": 1, "log": "l"}

    def step(tasks):
        return [Done(rows=(Row(POSITIONS, {**place, "next": 7}),)) for _ in tasks]

    bench, _ = begun(step, evaluation(), evaluation(input="b"))
    bench.run()
    (position,) = ledger.read(select(POSITIONS.c["topic", "partition", "log", "next"]))
    assert tuple(position) == ("t", 1, "l", 7)


@pytest.mark.parametrize(
    ("outcome", "state", "attempts"),
    [(Retry("busy"), "waiting", 1), (Held("?"), "held", 0), (Wait(JobEnd("nobody"), "?"), "parked", 0),
     (Dead(Category.PERMANENT, "no"), "dead", 1)],
    ids=["retries", "held", "waits", "dead"],
)  # fmt: skip
def test_what_became_of_a_round_is_no_other_rounds(ledger, begun, outcome, state, attempts):
    bench, (job,) = begun(lambda tasks: [outcome if task.ordinal else Done(to="mine") for task in tasks], evaluation())
    assert bench.run() == {(job, "mine", 0): "done", (job, "mine", 1): state}
    (row,) = ledger.read(select(STEPS.c.attempts).where(STEPS.c.ordinal == 1))
    assert row.attempts == attempts
