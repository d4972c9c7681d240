"""Running claims against a real ledger, with steps of the tests' own."""

import time
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select, update
from tests.workers.bridge.records import evaluation, generation
from tests.workers.judging.judge_model import JudgeModel
from tests.workers.ledger_jobs import claim_one, sqlite_ledger, take_in
from tests.workers.tasks_in_memory import Tasks

from headrace_producers import KafkaSettings
from headrace_schemas import (
    Answer,
    Category,
    ExactMatch,
    Output,
    Rubric,
    Sampling,
    Usage,
)
from headrace_schemas.codec import decode_value
from headrace_schemas.errors import PromptTooLong, Unavailable
from headrace_workers.clock import SystemClock
from headrace_workers.ledger.cancel import Cancellation
from headrace_workers.ledger.database import LedgerRefused, writing
from headrace_workers.ledger.replay import DeadFilter
from headrace_workers.ledger.tables import CLAIMS, JOBS, STEPS
from headrace_workers.pipeline.routing import Pipeline
from headrace_workers.progress import Progress
from headrace_workers.settings import Settings
from headrace_workers.steps.judge import judge
from headrace_workers.steps.outcome import Dead, Done, Retry
from headrace_workers.wire.bell import Hint
from headrace_workers.wire.hand_out import HandOut
from headrace_workers.worker.renew import Renewer
from headrace_workers.worker.run import Runner
from headrace_workers.worker.runs import Runs
from headrace_workers.worker.work import Work


class Bell:
    """Keeps what it was rung for."""

    def __init__(self) -> None:
        self.rung = []

    def ring(self, *hints) -> None:
        """Keep it."""
        self.rung += hints


@pytest.fixture
def ledger(tmp_path):
    """An empty ledger."""
    with sqlite_ledger(tmp_path) as ledger:
        yield ledger


def runner(ledger, step, tasks=None, bell=None, **settings):
    """A runner whose steps on the model's queue are this one."""
    settings = Settings(home=Path(), kafka=KafkaSettings.at("none:1"), redis="redis://none:1/0", ledger="", **settings)
    steps = {("model.echo", stage): step for stage in ("generate", "rubric")}
    runs = Runs(Progress(), Pipeline(), settings.longest_run)
    return Runner(
        ledger=ledger, work=Work(Pipeline(), steps, settings, SystemClock()), settings=settings,
        bell=bell or Bell(), clock=SystemClock(), progress=Progress(), worker="w",
        renewer=Renewer(ledger, settings.lease_ms, Progress().loop("renew"), runs), runs=runs,
        hand_out=HandOut(
            ledger=ledger, tasks=tasks or Tasks(waiting=99), sender="w", depth=2, lease_ms=60_000
        ),
    )  # fmt: skip


def answered(task):
    """What a model said."""
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    answer = Answer(text="t", finish_reason="stop", model="echo", quantization="none", usage=usage)
    return Done(Output(job_id=task.job_id, tenant="default", answer=answer))


def answer_all(tasks):
    """A step that works."""
    return [answered(task) for task in tasks]


def states(ledger):
    """Job, stage and state of each step."""
    return {(r.job_id, r.stage): r.state for r in ledger.read(select(STEPS.c.job_id, STEPS.c.stage, STEPS.c.state))}


def run_all(ledger, step, **settings):
    """Claim once and run it."""
    claim = claim_one(ledger)
    runner(ledger, step, **settings).run(claim.id)
    return claim


def test_a_group_is_answered_and_goes_on(ledger):
    """Each step is done, the next is ready, an event waits for each, nothing is leased."""
    ids = take_in(ledger, [generation() for _ in range(5)])
    run_all(ledger, answer_all)
    assert states(ledger) == {(i, s): w for i in ids for s, w in (("generate", "done"), ("moderate", "ready"))}
    assert sorted(row.record.key for row in ledger.outbox(99)) == sorted(ids)
    assert ledger.overview().claims == 0


def test_a_message_that_comes_twice_runs_once(ledger):
    """The second is passed over in silence."""
    take_in(ledger, [generation()])
    calls = []
    worker = runner(ledger, lambda tasks: calls.append(len(tasks)) or answer_all(tasks))
    claim = claim_one(ledger)
    for _ in range(2):
        worker.run(claim.id)
    worker.run(987_654)
    assert calls == [1]
    assert len(ledger.outbox(9)) == 1


def test_retry_comes_back_until_the_attempts_are_used_up(ledger):
    """Each run is one attempt; between them the step waits, and at last the job is dead with the reason."""
    (job_id,) = take_in(ledger, [generation()])
    seen = []

    def busy(tasks):
        seen.extend(task.attempt for task in tasks)
        return [Retry("busy") for _ in tasks]

    for attempt in range(1, 4):
        run_all(ledger, busy, max_attempts=3)
        if attempt < 3:
            assert states(ledger) == {(job_id, "generate"): "waiting"}
            with writing(ledger.engine) as tx:
                tx.execute(update(STEPS).values(ready_at=0))
            ledger.reap(3)
    assert seen == [1, 2, 3]
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.attempts, letter.reason) == (job_id, 3, "given up after 3 attempts: busy")


def test_an_answer_does_not_die_of_a_judge_that_is_away(ledger):
    """After the last attempt the job is done, and its receipt says what could not be judged and why."""
    rubric = Rubric(question="Is it kind?", model="echo")
    (job_id,) = take_in(ledger, [evaluation(criteria=(ExactMatch(), rubric))])
    away = JudgeModel(lambda prompt, choices: Unavailable("away"), alias="echo")
    run_all(ledger, partial(judge, generator=away), max_attempts=1)
    assert ledger.dead(DeadFilter()) == []
    ((kind, value),) = ledger.terminals([job_id]).values()
    exact, judged = decode_value(kind, value).judge.scores
    assert (exact.value, judged.value, judged.reason) == (1.0, None, "given up: away")


def test_dead_is_dead_at_once(ledger):
    """A permanent failure is not tried again; its neighbour is not touched."""
    take_in(ledger, [generation(), generation(prompt="bad")])
    run_all(ledger, lambda tasks: [
        Dead(Category.PERMANENT, "no") if t.job.prompt == "bad" else answered(t) for t in tasks
    ])  # fmt: skip
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.category, letter.reason, letter.stage) == ("permanent", "no", "generate")
    assert sorted(states(ledger).values()) == ["dead", "done", "ready"]


def test_what_expired_before_its_run_is_not_run(ledger):
    """The model's time is not spent on an answer that nobody waits for."""
    late, _ = take_in(ledger, [generation(), generation()])
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.job_id == late).values(deadline=1))
    ran = []
    run_all(ledger, lambda tasks: ran.extend(t.job_id for t in tasks) or answer_all(tasks))
    assert late not in ran
    assert len(ran) == 1
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.category) == (late, "expired")


def test_one_of_32_that_raises_fails_alone(ledger):
    """Its 31 neighbours are answered in the same run."""
    short = Sampling(max_tokens=8)  # so that all of them fit one group
    take_in(ledger, [generation(prompt=str(n), sampling=short) for n in range(32)])

    def step(tasks):
        if any(task.job.prompt == "17" for task in tasks):
            raise PromptTooLong("too long")
        return answer_all(tasks)

    run_all(ledger, step)
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.reason, letter.stage) == ("too long", "generate")
    assert sorted(states(ledger).values()) == ["dead"] + ["done"] * 31 + ["ready"] * 31


def test_a_worker_that_lost_its_lease_changes_nothing(ledger):
    """It was given up for dead while it ran, and another answered: only that one's events are there."""
    (job_id,) = take_in(ledger, [generation()])

    def slow(tasks):
        time.sleep(0.01)
        run_out(ledger)
        ledger.reap(3)
        run_all(ledger, answer_all)
        return [Dead(Category.PERMANENT, "too late") for _ in tasks]

    run_all(ledger, slow)
    assert states(ledger) == {(job_id, "generate"): "done", (job_id, "moderate"): "ready"}
    assert ledger.dead(DeadFilter()) == []
    assert len(ledger.outbox(9)) == 1


def test_a_job_cancelled_while_it_runs_is_not_answered(ledger):
    """Its neighbour is; the only event about it says that it was cancelled."""
    gone, kept = take_in(ledger, [generation(), generation()])

    def step(tasks):
        assert ledger.cancel(Cancellation(gone, "default", "never mind")) == "cancelled"
        return answer_all(tasks)

    run_all(ledger, step)
    kinds = {row.record.key: row.record.headers["ce_type"] for row in ledger.outbox(9)}
    assert kinds == {gone: "headrace.job.cancelled.v1", kept: "headrace.output.v1"}
    assert states(ledger) == {(gone, "generate"): "cancelled", (kept, "generate"): "done", (kept, "moderate"): "ready"}


def test_a_group_that_was_cancelled_whole_runs_nothing(ledger):
    """Between claim and start everything was let go of: no call, and the claim ends."""
    (gone,) = take_in(ledger, [generation()])
    claim = claim_one(ledger)
    ledger.cancel(Cancellation(gone, "default", ""))
    runner(ledger, lambda _tasks: pytest.fail("the step was called")).run(claim.id)
    assert ledger.overview().claims == 0


def test_a_record_that_cannot_be_read_dies_alone(ledger):
    """A payload of another version is a dead letter that says so; its neighbour is answered."""
    odd, _ = take_in(ledger, [generation(), generation()])
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).where(JOBS.c.id == odd).values(payload=b'{"model":"echo","new_field":1}'))
    run_all(ledger, answer_all)
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.category) == (odd, "permanent")
    assert "cannot be read by this version" in letter.reason
    assert "done" in states(ledger).values()


def test_a_ledger_that_is_away_for_a_moment_costs_no_answer(ledger, monkeypatch):
    """Completing is tried again while the lease may hold."""
    take_in(ledger, [generation()])
    complete, failures = ledger.complete, [Unavailable("away")] * 2

    def flaky(*args, **kwargs):
        if failures:
            raise failures.pop()
        return complete(*args, **kwargs)

    monkeypatch.setattr(ledger, "complete", flaky)
    run_all(ledger, answer_all)
    assert len(ledger.outbox(9)) == 1


def test_an_answer_that_was_lost_on_its_way_costs_nothing(ledger, monkeypatch):
    """The ledger began the claim and could not say so: the same worker asks again, and runs it."""
    (job_id,) = take_in(ledger, [generation()])
    start, failures = ledger.start, [Unavailable("away")]

    def lost(*args, **kwargs):
        started = start(*args, **kwargs)
        if failures:
            raise failures.pop()
        return started

    monkeypatch.setattr(ledger, "start", lost)
    run_all(ledger, answer_all)
    assert states(ledger)[job_id, "generate"] == "done"


def test_a_message_that_comes_again_while_its_claim_runs_is_passed_over(ledger):
    """The claim runs once, though its worker may begin it again."""
    take_in(ledger, [generation()])
    claim, calls = claim_one(ledger), []

    def twice(tasks):
        calls.append(len(tasks))
        if len(calls) == 1:
            worker.run(claim.id)
        return answer_all(tasks)

    worker = runner(ledger, twice)
    worker.run(claim.id)
    assert calls == [1]


def test_a_worker_that_is_to_end_waits_a_lease_for_the_ledger_and_no_longer(ledger, monkeypatch):
    """It lets go of what it had asked for: should it have begun without our knowing, it is given back."""
    take_in(ledger, [generation()])
    claim, start = claim_one(ledger), ledger.start

    def lost(*args, **kwargs):
        start(*args, **kwargs)
        raise Unavailable("away")

    monkeypatch.setattr(ledger, "start", lost)
    worker = runner(ledger, answer_all, lease=0.15)
    worker.leave()
    worker.run(claim.id)
    assert worker.give_back() == 1


def test_a_worker_that_comes_back_too_late_has_not_died(ledger, monkeypatch):
    """The ledger was away for it alone: its work was taken back, and counts against no job once it is there again."""
    (job_id,) = take_in(ledger, [generation()])
    complete, away = ledger.complete, [Unavailable("away")]

    def cut_off(*args, **kwargs):
        if away:
            run_out(ledger)
            assert ledger.reap(3).crashed == 1
            assert crashes(ledger) > 0
            raise away.pop()
        return complete(*args, **kwargs)

    monkeypatch.setattr(ledger, "complete", cut_off)
    run_all(ledger, answer_all)
    assert (states(ledger), crashes(ledger)) == ({(job_id, "generate"): "ready"}, 0)


def run_out(ledger):
    """Let every lease have run out."""
    with writing(ledger.engine) as tx:
        tx.execute(update(CLAIMS).values(lease_until=0))


def crashes(ledger):
    """How many are counted against all steps."""
    return sum(row.crashes for row in ledger.read(select(STEPS.c.crashes)))


def test_the_lost_answer_of_a_completion_costs_nothing(ledger, monkeypatch):
    """It was written: the worker asks again, finds that, and is done."""
    (job_id,) = take_in(ledger, [generation()])
    complete, failures = ledger.complete, [Unavailable("away")]

    def lost(*args, **kwargs):
        done = complete(*args, **kwargs)
        if failures:
            raise failures.pop()
        return done

    monkeypatch.setattr(ledger, "complete", lost)
    run_all(ledger, answer_all)
    assert states(ledger) == {(job_id, "generate"): "done", (job_id, "moderate"): "ready"}
    assert (ledger.overview().claims, len(ledger.outbox(9))) == (0, 1)


def test_what_fails_around_the_step_is_tried_again_later_and_at_last_dead(ledger, monkeypatch, caplog):
    """Nothing stays begun, nothing spins, nothing looks like a worker's death; the reason names no user's text."""

    def broken(*_args):
        raise ValueError("with a text of the user's")

    monkeypatch.setattr("headrace_workers.worker.work.settle", broken)
    (job_id,) = take_in(ledger, [generation()])
    for attempt in range(1, 4):
        run_all(ledger, answer_all, max_attempts=3)
        assert (ledger.overview().claims, crashes(ledger)) == (0, 0)
        ((state, tried),) = ledger.read(select(STEPS.c.state, STEPS.c.attempts))
        assert (state, tried) == ("waiting" if attempt < 3 else "dead", attempt)
        with writing(ledger.engine) as tx:
            tx.execute(update(STEPS).values(ready_at=0))
        ledger.reap(3)
    (letter,) = ledger.dead(DeadFilter())
    assert letter.job_id == job_id
    assert "ValueError" in letter.reason
    assert "text" not in letter.reason


@pytest.mark.parametrize("how", ["done", "raised", "unknown"])
def test_bridges_are_told_however_a_claim_ended(ledger, monkeypatch, how):
    """There is room in the queue, and there may be steps and events: nobody need look for them first."""

    def broken(*_args):
        raise ValueError

    take_in(ledger, [generation()])
    if how == "raised":
        monkeypatch.setattr("headrace_workers.worker.work.settle", broken)
    if how == "unknown":
        with writing(ledger.engine) as tx:
            tx.execute(update(STEPS).values(stage="summarize"))
    bell = Bell()
    runner(ledger, answer_all, bell=bell).run(claim_one(ledger).id)
    assert set(bell.rung) == set(Hint)


def test_bridges_are_told_of_what_a_worker_gives_back(ledger):
    """And of nothing when there was nothing."""
    take_in(ledger, [generation()])
    bell = Bell()
    worker = runner(ledger, answer_all, bell=bell)
    assert (worker.give_back(), bell.rung) == (0, [])
    with worker._renewer.renewing(claim_one(ledger).id):
        assert (worker.give_back(), bell.rung) == (1, [Hint.WORK])


def test_a_claim_that_cannot_even_be_put_off_is_let_go_of(ledger, monkeypatch):
    """The renewer gives it back, a while later."""
    take_in(ledger, [generation()])

    def broken(*_args, **_kwargs):
        raise LedgerRefused("broken")

    monkeypatch.setattr(ledger, "complete", broken)
    worker = runner(ledger, answer_all)
    worker.run(claim_one(ledger).id)
    assert worker.give_back() == 1
    assert (set(states(ledger).values()), crashes(ledger)) == ({"ready"}, 0)


def test_a_stage_that_this_version_does_not_know_waits_for_one_that_does(ledger):
    """As in a rolling upgrade: it was not tried, it is not poison however often, and it does not spin."""
    (job_id,) = take_in(ledger, [generation()])
    old = runner(ledger, answer_all)
    for _ in range(5):
        with writing(ledger.engine) as tx:
            tx.execute(update(STEPS).values(stage="summarize", state="ready"))
        old.run(claim_one(ledger).id)
        ((state, attempts, ready_at, reason),) = ledger.read(
            select(STEPS.c.state, STEPS.c.attempts, STEPS.c.ready_at, STEPS.c.reason)
        )
        assert (state, attempts, crashes(ledger)) == ("waiting", 0, 0)
        assert ready_at > ledger.now()
        assert "'summarize'" in reason
        assert claim_one(ledger) is None
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(stage="generate", ready_at=0))
    ledger.reap(3)
    run_all(ledger, answer_all)
    assert states(ledger)[job_id, "generate"] == "done"


def test_what_is_in_hand_is_given_back_at_a_stop(ledger):
    """The steps are ready at once, and this attempt never was."""
    take_in(ledger, [generation(), generation()])
    given_back = []

    def stopped(tasks):
        given_back.append(worker.give_back())
        return answer_all(tasks)

    worker = runner(ledger, stopped)
    worker.run(claim_one(ledger).id)
    assert given_back == [2]
    assert worker.give_back() == 0
    assert set(states(ledger).values()) == {"ready"}
    assert ledger.outbox(9) == []
    assert [row.attempts for row in ledger.read(select(STEPS.c.attempts))] == [0, 0]


def test_what_follows_is_sent_on_at_once(ledger):
    """With room in the next queue its worker gets the claim from this one."""
    tasks = Tasks()
    take_in(ledger, [generation(lane="interactive")])
    bell = Bell()
    runner(ledger, answer_all, tasks, bell).run(claim_one(ledger, lane=0).id)
    (claim,) = tasks.sent
    assert bell.rung == [Hint.WORK, Hint.EVENTS]  # who takes it on will ring for its end
    assert (claim.queue, claim.lane, claim.size) == ("moderate", 0, 1)
    assert "leased" in states(ledger).values()


@pytest.mark.parametrize("tasks", [Tasks(waiting=2), Tasks(away=True)], ids=["full", "away"])
def test_what_cannot_be_sent_on_is_left_to_the_bridge(ledger, tasks):
    """A full queue, and a Redis that is away, leave what follows ready."""
    (job_id,) = take_in(ledger, [generation()])
    runner(ledger, answer_all, tasks).run(claim_one(ledger).id)
    assert (tasks.sent, states(ledger)) == ([], {(job_id, "generate"): "done", (job_id, "moderate"): "ready"})


def test_a_stop_gives_back_what_was_sent_on_and_not_begun(ledger):
    """Nothing of this worker's stays leased."""
    (job_id,) = take_in(ledger, [generation()])
    worker = runner(ledger, answer_all, Tasks())
    worker.run(claim_one(ledger).id)
    assert worker.give_back() == 1
    assert states(ledger)[job_id, "moderate"] == "ready"
