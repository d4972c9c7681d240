import pytest
from sqlalchemy import select, update
from tests.workers.ledger_jobs import claim_one, take_in
from tests.workers.runtime.bridge.records import generation
from tests.workers.runtime.worker.running import Notifier, answer_all, runner, states
from tests.workers.tasks_in_memory import Tasks

from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import STEPS
from headrace_workers.runtime.wire.hints import Hint


@pytest.mark.parametrize("how", ["done", "raised", "unknown"])
def test_bridges_are_told_however_a_claim_ended(ledger, monkeypatch, how):
    def broken(*_args):
        raise ValueError

    take_in(ledger, [generation()])
    if how == "raised":
        monkeypatch.setattr("headrace_workers.runtime.worker.work.settle", broken)
    if how == "unknown":
        with writing(ledger.engine) as tx:
            tx.execute(update(STEPS).values(stage="summarize"))
    notifier = Notifier()
    runner(ledger, answer_all, notifier=notifier).run(claim_one(ledger).id)
    assert set(notifier.sent) == {Hint.WORK, Hint.EVENTS, Hint.ENDS}


def test_bridges_are_told_of_what_a_worker_gives_back(ledger):
    take_in(ledger, [generation()])
    notifier = Notifier()
    worker = runner(ledger, answer_all, notifier=notifier)
    assert (worker.give_back(), notifier.sent) == (0, [])
    with worker._renewer.renewing(claim_one(ledger).id):
        assert (worker.give_back(), notifier.sent) == (1, [Hint.WORK])


def test_what_is_in_hand_is_given_back_at_a_stop(ledger):
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
    tasks = Tasks()
    take_in(ledger, [generation(lane="interactive")])
    notifier = Notifier()
    runner(ledger, answer_all, tasks, notifier).run(claim_one(ledger, lane=0).id)
    (claim,) = tasks.sent
    assert notifier.sent == [Hint.WORK, Hint.EVENTS]  # who takes it on will ring for its end
    assert (claim.queue, claim.lane, claim.size) == ("moderate", 0, 1)
    assert "leased" in states(ledger).values()


@pytest.mark.parametrize("tasks", [Tasks(waiting=2), Tasks(away=True)], ids=["full", "away"])
def test_what_cannot_be_sent_on_is_left_to_the_bridge(ledger, tasks):
    (job_id,) = take_in(ledger, [generation()])
    runner(ledger, answer_all, tasks).run(claim_one(ledger).id)
    assert (tasks.sent, states(ledger)) == ([], {(job_id, "generate"): "done", (job_id, "moderate"): "ready"})


def test_a_stop_gives_back_what_was_sent_on_and_not_begun(ledger):
    (job_id,) = take_in(ledger, [generation()])
    worker = runner(ledger, answer_all, Tasks())
    worker.run(claim_one(ledger).id)
    assert worker.give_back() == 1
    assert states(ledger)[job_id, "moderate"] == "ready"
