"""Whom a worker tells of the ends that it has written, without waiting for a bridge."""

import pytest
from sqlalchemy import event, select
from tests.workers.features.webhooks.office import Office
from tests.workers.ledger_jobs import claim_one, take_in
from tests.workers.runtime.bridge.records import embedding
from tests.workers.runtime.worker.running import Notifier, runner
from tests.workers.tasks_in_memory import Tasks

from headrace_schemas import Result, Usage
from headrace_schemas.callback import Callback
from headrace_schemas.errors import Unavailable
from headrace_schemas.events import Embedding
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.event_units import Following
from headrace_workers.core.ledger.outcome import Ended
from headrace_workers.core.tables import JOBS
from headrace_workers.features.webhooks.store.deliveries import Range
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.telling import Telling, Wording
from headrace_workers.runtime.wire.hints import Hint

TOLD = Callback(url="https://shop.example/hooks")


def end_all(tasks):
    made = Embedding(
        model="vectors",
        embedder="e",
        dimensions=1,
        vector="AACAPw==",
        usage=Usage(prompt_tokens=1, completion_tokens=0),
    )
    return [
        Ended(
            Result(job_id=task.job_id, tenant="default", status="completed", kind="embedding", embedding=made,
                   accepted_at=task.accepted_at)
        )
        for task in tasks
    ]  # fmt: skip


def run(ledger, jobs, step=end_all, tasks=None, notifier=None, units=None):
    known = take_in(ledger, jobs)
    units = units or Following([Telling(ledger, Wording()).units]).units
    runner(ledger, step, tasks, notifier, units=units).run(claim_one(ledger, "embed").id)
    return known


def deliveries(ledger):
    """What is told: of which job, and what."""
    return sorted((delivery.subject, delivery.type) for delivery in ledger.of(Webhooks).deliveries(Range(), 100))


def ends(ledger, known):
    return {row.id: row.state for row in ledger.read(select(JOBS.c.id, JOBS.c.state).where(JOBS.c.id.in_(known)))}


def test_an_end_is_told_before_a_bridge_has_looked(ledger):
    tasks, notifier = Tasks(), Notifier()
    (job,) = run(ledger, [embedding(callback=TOLD)], tasks=tasks, notifier=notifier)
    assert deliveries(ledger) == [(job, "job.completed")]
    assert [(claim.queue, claim.size) for claim in tasks.sent] == [("deliver", 1)]
    assert notifier.sent == [Hint.WORK, Hint.EVENTS, Hint.ENDS]
    Office(ledger).relay()
    assert deliveries(ledger) == [(job, "job.completed")]
    assert ledger.overview().claims == 1


def test_what_cannot_be_sent_at_once_is_handed_out_by_a_bridge(ledger):
    notifier = Notifier()
    (job,) = run(ledger, [embedding(callback=TOLD)], tasks=Tasks(waiting=99), notifier=notifier)
    assert deliveries(ledger) == [(job, "job.completed")]
    assert notifier.sent == [Hint.WORK, Hint.EVENTS, Hint.ENDS]


def test_a_job_that_was_cancelled_meanwhile_is_not_told_as_done(ledger):
    def cancelled(tasks):
        ledger.cancel(Cancellation(tasks[0].job_id, "default", "never mind"))
        return end_all(tasks)

    known = run(ledger, [embedding(callback=TOLD), embedding(input="b", callback=TOLD)], cancelled)
    found = ends(ledger, known)
    (done,) = (job for job, state in found.items() if state == "done")
    (gone,) = (job for job, state in found.items() if state == "cancelled")
    assert deliveries(ledger) == [(done, "job.completed")]
    Office(ledger).relay()
    assert deliveries(ledger) == sorted([(done, "job.completed"), (gone, "job.cancelled")])


@pytest.mark.parametrize(("count", "told"), [(8, 8), (9, 0)])
def test_of_many_ends_a_bridge_tells(ledger, count, told):
    known = run(ledger, [embedding(input=str(number), callback=TOLD) for number in range(count)])
    assert len(deliveries(ledger)) == told
    Office(ledger).relay()
    assert deliveries(ledger) == sorted((job, "job.completed") for job in known)


@pytest.mark.parametrize("error", [Unavailable("the ledger is away"), ValueError("a bug")])
def test_what_fails_here_a_bridge_does(ledger, error):
    def failing(_records, _now):
        raise error

    (job,) = run(ledger, [embedding(callback=TOLD)], units=failing)
    assert (ends(ledger, [job]), deliveries(ledger)) == ({job: "done"}, [])
    Office(ledger).relay()
    assert deliveries(ledger) == [(job, "job.completed")]


@pytest.mark.parametrize(("believed", "asked"), [(0.0, 3), (3_600.0, 1)])
def test_that_nobody_listens_is_believed_for_a_while(ledger, believed, asked):
    telling = Telling(ledger, Wording(), believed)
    for number in range(3):
        run(ledger, [embedding(input=str(number))], units=lambda _records, _now: [])
    records, now, seen = [row.record for row in ledger.outbox(100)], ledger.now(), []
    event.listen(ledger.engine, "before_cursor_execute", lambda *arguments: seen.append(arguments[2]))
    for record in records:
        assert telling.units([record], now) == []
    assert sum(item.startswith("SELECT") for item in seen) == asked


def test_whom_nobody_of_listens_to_is_asked_about_each_time(ledger):
    """Somebody listens to something: another job's listener may have come since."""
    telling = Telling(ledger, Wording(), 3_600.0)
    quiet, heard = run(ledger, [embedding(input="a"), embedding(input="b", callback=TOLD)], units=lambda *_: [])
    records, now = {row.record.key: row.record for row in ledger.outbox(100)}, ledger.now()
    assert telling.units([records[quiet]], now) == []
    assert [unit.subject for unit in telling.units([records[heard]], now)] == [heard]
