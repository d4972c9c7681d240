from functools import partial

import pytest
from sqlalchemy import select, update
from tests.workers.features.judging.judge_model import JudgeModel
from tests.workers.ledger_jobs import claim_one, take_in
from tests.workers.runtime.bridge.records import embedding, evaluation, generation
from tests.workers.runtime.worker.running import answer_all, crashes, run_all, runner, states

from headrace_schemas import (
    Category,
    ExactMatch,
    Rubric,
)
from headrace_schemas.codec import decode_value
from headrace_schemas.errors import Unavailable
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.outcome import Dead
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import BUDGETS, JOBS, STEPS
from headrace_workers.features.judging.stage import judge


def test_a_group_is_answered_and_goes_on(ledger):
    ids = take_in(ledger, [generation() for _ in range(5)])
    run_all(ledger, answer_all)
    assert states(ledger) == {(i, s): w for i in ids for s, w in (("generate", "done"), ("moderate", "ready"))}
    assert sorted(row.record.key for row in ledger.outbox(99)) == sorted(ids)
    assert ledger.overview().claims == 0


def test_a_message_that_comes_twice_runs_once(ledger):
    take_in(ledger, [generation()])
    calls = []
    worker = runner(ledger, lambda tasks: calls.append(len(tasks)) or answer_all(tasks))
    claim = claim_one(ledger)
    for _ in range(2):
        worker.run(claim.id)
    worker.run(987_654)
    assert calls == [1]
    assert len(ledger.outbox(9)) == 1


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


def test_what_expired_before_its_run_is_not_run(ledger):
    late, _ = take_in(ledger, [generation(), generation()])
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.job_id == late).values(deadline=1))
    ran = []
    run_all(ledger, lambda tasks: ran.extend(t.job_id for t in tasks) or answer_all(tasks))
    assert late not in ran
    assert len(ran) == 1
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.category) == (late, "expired")


def test_a_group_that_was_cancelled_whole_runs_nothing(ledger):
    (gone,) = take_in(ledger, [generation()])
    claim = claim_one(ledger)
    ledger.cancel(Cancellation(gone, "default", ""))
    runner(ledger, lambda _tasks: pytest.fail("the step was called")).run(claim.id)
    assert ledger.overview().claims == 0


def test_a_record_that_cannot_be_read_dies_alone(ledger):
    odd, _ = take_in(ledger, [generation(), generation()])
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).where(JOBS.c.id == odd).values(payload=b'{"model":"echo","new_field":1}'))
    run_all(ledger, answer_all)
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.category) == (odd, "permanent")
    assert "cannot be read by this version" in letter.reason
    assert "done" in states(ledger).values()


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


def test_a_stage_that_this_version_does_not_know_waits_for_one_that_does(ledger):
    (job_id,) = take_in(ledger, [generation()])
    old = runner(ledger, answer_all)
    for _ in range(5):
        with writing(ledger.engine) as tx:
            tx.execute(update(STEPS).values(stage="summarize", state="ready"))
        before = ledger.now()
        old.run(claim_one(ledger).id)
        ((state, attempts, ready_at, reason),) = ledger.read(
            select(STEPS.c.state, STEPS.c.attempts, STEPS.c.ready_at, STEPS.c.reason)
        )
        assert (state, attempts, crashes(ledger)) == ("waiting", 0, 0)
        assert before + 5_000 <= ready_at <= ledger.now() + 10_000
        assert "'summarize'" in reason
        assert claim_one(ledger) is None
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(stage="generate", ready_at=0))
    ledger.reap(3)
    run_all(ledger, answer_all)
    assert states(ledger)[job_id, "generate"] == "done"


class Slow(SystemClock):
    """A clock by which every run takes a second."""

    def __init__(self):
        self._now = 0.0

    def monotonic(self):
        self._now += 1.0
        return self._now


@pytest.mark.parametrize(("job", "queue", "learnt"), [(embedding, "embed", 1), (generation, "model.echo", 0)])
def test_a_group_that_takes_longer_than_its_stage_wants_teaches(ledger, job, queue, learnt):
    take_in(ledger, [job()])
    claim = claim_one(ledger, queue)
    runner(ledger, lambda tasks: [Dead(Category.PERMANENT, "no") for _ in tasks], clock=Slow()).run(claim.id)
    assert len(ledger.read(select(BUDGETS))) == learnt
