import threading
from dataclasses import replace

import pytest
from sqlalchemy import event, select, update
from tests.services.eventually import eventually
from tests.workers.core.ledger.test_complete import ends, goes_on

from headrace_schemas import Category, DeadLetter, Topic
from headrace_schemas.codec import decode_value
from headrace_workers.core.identity import end_id
from headrace_workers.core.ledger.cancellation import Cancellation, cancel
from headrace_workers.core.ledger.dead_letters import Record
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.tables import JOBS, STEPS

CANCELLED = "headrace.job.cancelled.v1"


def wish(job_id, tenant="a", offset=0):
    return Cancellation(job_id, tenant, "why not", record=Record(Topic.CANCELLATION, 0, offset, (), b"{}"))


def test_the_wishes_of_one_poll_are_granted_in_one_pass(ledger, job):
    jobs = [job() for _ in range(40)]
    ledger.ingest(jobs)
    seen = []
    event.listen(ledger.engine, "before_cursor_execute", lambda *given: seen.append(given[2]))
    few = count(seen, lambda: ledger.ingest([], [], [wish(j.id) for j in [*jobs[:2], job()]]))
    many = count(seen, lambda: ledger.ingest([], [], [wish(j.id) for j in [*jobs[2:], *(job() for _ in range(20))]]))
    assert few == many
    states = ledger.read(select(JOBS.c.state, JOBS.c.kind))
    assert (len(states), {row.state for row in states}) == (61, {"cancelled"})
    assert [row.record.headers["ce_type"] for row in ledger.outbox(100)] == [CANCELLED] * 61
    assert {row.state for row in ledger.read(select(STEPS.c.state))} == {"cancelled"}


def count(seen, act):
    before = len(seen)
    act()
    return len(seen) - before


def test_a_wish_for_another_tenants_job_is_told(ledger, job):
    known = job()
    ledger.ingest([known])
    for _ in range(2):
        ledger.ingest([], [], [wish(known.id, tenant="b", offset=7)])
    (told,) = ledger.outbox(10)
    letter = decode_value("headrace.dead.v1", told.record.value)
    assert isinstance(letter, DeadLetter)
    assert (letter.category, letter.job_id, letter.refers_to) == (Category.CONFLICT, None, known.id)
    assert (letter.tenant, letter.topic, letter.offset) == ("b", "jobs.cancellation", 7)
    assert letter.reason == f"job {known.id} is not b's: only the tenant that sent a job can cancel it"
    assert ledger.job(known.id).job.state == "active"


def test_what_is_told_of_a_cancellation(ledger, job, begun):
    (row,) = begun.steps
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).values(replays=2))
    assert ledger.cancel(Cancellation(row.job_id, "a", "no longer needed", trace, "wish-1")) == "cancelled"
    (told,) = ledger.outbox(9)
    event = decode_value(CANCELLED, told.record.value)
    assert (event.job_id, event.tenant, event.reason) == (row.job_id, "a", "no longer needed")
    headers = told.record.headers
    assert (told.record.topic, told.record.key, headers["ce_type"]) == (Topic.RESULTS, row.job_id, CANCELLED)
    assert (headers["ce_id"], headers["ce_subject"]) == (end_id(row.job_id, CANCELLED, 2), row.job_id)
    assert (headers["ce_traceparent"], headers["ce_correlationid"]) == (trace, "wish-1")
    known = ledger.job(row.job_id).job
    assert (known.state, known.terminal_type, bytes(known.terminal)) == ("cancelled", CANCELLED, told.record.value)
    (step,) = ledger.read(select(STEPS))
    assert (step.state, step.claim_id, step.ended_at) == ("cancelled", None, known.ended_at)
    assert abs(known.ended_at - ledger.now()) < 60_000


def test_each_wish_has_its_outcome(ledger, job):
    """In their order: granted, too late, another's, ahead, and the second for one job."""
    live, ended, ahead = job(), job(), job()
    ledger.ingest([live, ended])
    ledger.cancel(Cancellation(ended.id, "a", ""))
    wishes = [wish(ended.id), wish(live.id, tenant="b"), wish(ahead.id), wish(live.id), wish(live.id), wish(ahead.id)]
    with writing(ledger.engine) as tx:
        outcomes = cancel(tx, wishes)
        assert cancel(tx, []) == []
    assert outcomes == [
        "already_ended", "not_yours", "cancelled_ahead", "cancelled", "already_ended", "already_ended",
    ]  # fmt: skip
    row = ledger.job(ahead.id).job
    assert (row.tenant, row.kind, row.state, bytes(row.payload), row.replays) == ("a", "unknown", "cancelled", b"", 0)
    assert row.accepted_at <= row.ended_at


def test_wishes_of_two_tenants_for_one_job_are_each_judged(ledger, job):
    known = job()
    ledger.ingest([known])
    ledger.ingest([], [], [wish(known.id, tenant="b", offset=1), wish(known.id, offset=2)])
    assert ledger.job(known.id).job.state == "cancelled"
    assert sorted(row.record.topic for row in ledger.outbox(10)) == [Topic.DEAD, Topic.RESULTS]


def test_a_cancellation_carries_the_jobs_correlation(ledger, job):
    known, ahead = replace(job(), correlationid="order-7"), job()
    ledger.ingest([known])
    wishes = [Cancellation(j.id, "a", "", None, "wish-1") for j in (known, ahead)]
    ledger.ingest([], [], wishes)
    found = {row.record.key: row.record.headers["ce_correlationid"] for row in ledger.outbox(10)}
    assert found == {known.id: "order-7", ahead.id: "wish-1"}


@pytest.fixture
def begun(ledger, job, claim):
    ledger.ingest([job()])
    return ledger.start(claim().id, worker="w", lease_ms=60_000)


def cancel_while(ledger, begun, settled):
    """Complete, and let a cancellation come when the step is written and its event is not; what both returned."""
    if ledger.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    job_id = begun.steps[0].job_id
    other = Ledger.at(ledger.engine.url.render_as_string(hide_password=False))
    outcomes = []
    canceller = threading.Thread(target=lambda: outcomes.append(other.cancel(Cancellation(job_id, "a", ""))))

    def let_it_come(_connection, _cursor, statement, *_rest):
        if statement.startswith("UPDATE steps") and not canceller.ident:
            canceller.start()
            eventually(lambda: not canceller.is_alive() or waits_for_a_lock(other))

    event.listen(ledger.engine, "before_cursor_execute", let_it_come)
    completed = ledger.complete(begun.claim_id, settled, ran_ms=1, quantum_ms=1_000)
    canceller.join(120)
    assert not canceller.is_alive()
    other.close()
    return completed, outcomes[0]


def waits_for_a_lock(ledger):
    """Whether a transaction of this database waits for another."""
    with reading(ledger.engine) as tx:
        return tx.exec_driver_sql(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).first()


def test_a_cancellation_is_told_after_what_was_said_before(ledger, begun):
    (row,) = begun.steps
    completed, outcome = cancel_while(ledger, begun, [goes_on(row.job_id)])
    assert (bool(completed), outcome) == (True, "cancelled")
    assert [found.record.headers["ce_type"] for found in ledger.outbox(10)] == ["x", CANCELLED]


def test_a_cancellation_that_waited_for_the_end_comes_too_late(ledger, begun):
    (row,) = begun.steps
    completed, outcome = cancel_while(ledger, begun, [ends(row.job_id, "headrace.result.v1")])
    assert (bool(completed), outcome) == (True, "already_ended")
    assert [found.record.headers["ce_type"] for found in ledger.outbox(10)] == ["headrace.result.v1"]
