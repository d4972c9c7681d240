"""No two transactions wait for each other: all lock claims, then jobs, then steps. On PostgreSQL, two connections.

SQLite has one writer at a time.
"""

import threading
from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import select, text, update
from tests.services.eventually import eventually
from tests.services.tables import give_back, postgres_tables
from tests.workers.core.ledger.test_complete import burial, ends, goes_on

from headrace_workers.core.ledger.cancellation import Cancellation, cancel
from headrace_workers.core.ledger.claims import QueueRoom, Wanted
from headrace_workers.core.ledger.completion import complete
from headrace_workers.core.ledger.dead_letters import letter_row
from headrace_workers.core.ledger.leases import renew
from headrace_workers.core.ledger.outcome import Done
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import writing
from headrace_workers.core.sql.statements import append
from headrace_workers.core.tables import CLAIMS, DEAD_LETTERS, JOBS, LOOKS, NEVER, STEPS
from headrace_workers.features.cache.store import entries
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.audit_rows import Audited, NewAudit
from headrace_workers.features.cache.store.entries import Admit, Disallow, NewEntry
from headrace_workers.features.cache.store.removal import EntryFilter
from headrace_workers.features.cache.tables import AUDITS, ENTRIES
from headrace_workers.features.webhooks.store import endpoints
from headrace_workers.features.webhooks.store.webhooks import Webhooks

LEASE = 60_000


@pytest.fixture
def ledger_url(postgres):
    name = f"locks_{uuid4().hex[:8]}"
    yield postgres_tables(postgres, name)
    give_back(postgres, name)


class Meanwhile:
    """A call in a thread of its own. It is `settled` when it has ended, or waits for a lock."""

    def __init__(self, ledger, call):
        self._ledger, self._call = ledger, call
        self._outcome, self._error = None, None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        eventually(self._settled)

    @property
    def ended(self):
        return not self._thread.is_alive()

    def result(self):
        """What it returned, or raises what it raised."""
        self._thread.join(120)
        assert self.ended
        if self._error is not None:
            raise self._error
        return self._outcome

    def _run(self):
        try:
            self._outcome = self._call()
        except Exception as error:
            self._error = error

    def _settled(self):
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        return self.ended or self._ledger.read(text(waits))


@pytest.fixture
def begun(ledger, job, claim):
    """Two claims of two jobs each, in the hands of two workers."""
    ledger.ingest([job(job_id=f"{n:036}") for n in range(4)])
    return [ledger.start(claim(limit=2).id, worker=f"w{n}", lease_ms=LEASE) for n in range(2)]


def test_a_cancellation_waits_for_no_other_jobs_completion(ledger, begun):
    with writing(ledger.engine) as tx:
        tx.execute(select(CLAIMS).where(CLAIMS.c.id == begun[0].claim_id).with_for_update())
        tx.execute(select(JOBS).where(JOBS.c.id == begun[0].steps[0].job_id).with_for_update())
        meanwhile = Meanwhile(ledger, lambda: ledger.cancel(Cancellation(begun[1].steps[0].job_id, "a", "")))
        assert meanwhile.result() == "cancelled"


def test_a_job_that_is_cancelled_while_its_deadline_passes_has_one_end(ledger, job):
    ledger.ingest([only := job(deadline=1)])
    with writing(ledger.engine) as tx:
        assert cancel(tx, [Cancellation(only.id, "a", "")]) == ["cancelled"]
        meanwhile = Meanwhile(ledger, lambda: ledger.reap(3))
        assert not meanwhile.ended
    meanwhile.result()
    assert ledger.job(only.id).job.state == "cancelled"
    assert [row.record.headers["ce_type"] for row in ledger.outbox(9)] == ["headrace.job.cancelled.v1"]
    assert ledger.dead(DeadFilter()) == []


@pytest.mark.parametrize("room", [0, 1])
def test_a_cancel_that_waits_for_a_completion_leaves_nothing_to_do(ledger, begun, room):
    jobs = [row.job_id for row in begun[0].steps]
    handing = QueueRoom({("m", 1): room}, "w", LEASE)
    with writing(ledger.engine) as tx:
        settled = [goes_on(job_id) for job_id in jobs]
        complete(tx, begun[0].claim_id, settled, ran_ms=1, quantum_ms=9, room=handing)
        meanwhile = Meanwhile(ledger, lambda: ledger.cancel(Cancellation(jobs[0], "a", "")))
        assert not meanwhile.ended
    assert meanwhile.result() == "cancelled"
    rows = ledger.read(select(STEPS.c.stage, STEPS.c.state).where(STEPS.c.job_id == jobs[0]))
    assert sorted(rows) == [("generate", "done"), ("moderate", "cancelled")]


def test_a_completion_that_waits_for_a_cancel_writes_nothing_of_it(ledger, begun):
    gone, kept = (row.job_id for row in begun[0].steps)
    settled = [goes_on(gone), ends(kept, "headrace.result.v1")]
    with writing(ledger.engine) as tx:
        assert cancel(tx, [Cancellation(gone, "a", "")]) == ["cancelled"]
        meanwhile = Meanwhile(ledger, lambda: ledger.complete(begun[0].claim_id, settled, ran_ms=1, quantum_ms=9))
        assert not meanwhile.ended
    assert meanwhile.result()
    steps = ledger.read(select(STEPS.c.job_id, STEPS.c.stage, STEPS.c.state).where(STEPS.c.job_id.in_([gone, kept])))
    assert sorted(steps) == sorted([(gone, "generate", "cancelled"), (kept, "generate", "done")])
    assert [row.record.key for row in ledger.outbox(9)] == [gone, kept]  # its cancellation, and its neighbour's result


def test_leases_that_are_being_renewed_need_not_be_put_off(ledger, begun):
    ledger.look(LEASE)
    with writing(ledger.engine) as tx:
        tx.execute(update(LOOKS).values(at=LOOKS.c.at - 10 * LEASE))
        tx.execute(update(CLAIMS).values(renewed_at=CLAIMS.c.renewed_at - LEASE, lease_until=0))
    with writing(ledger.engine) as tx:
        renew(tx, [begun[0].claim_id], LEASE)
        meanwhile = Meanwhile(ledger, lambda: ledger.look(LEASE))
        assert meanwhile.ended
    assert meanwhile.result() > LEASE
    assert ledger.reap(3).crashed == 0


def live(ledger, count):
    """Answers that may be given; their ids."""
    with writing(ledger.engine) as tx:
        return [
            tx.execute(
                ENTRIES.insert()
                .values(scope="s", key=f"k{n}", tenant="a", state="live", job_id=f"{n:036}", lane=0, made_at=1,
                        expires_at=NEVER)
                .returning(ENTRIES.c.id)
            ).scalar_one()
            for n in range(count)
        ]  # fmt: skip


def pending(ledger, key):
    """One that is being made, in the place of a live one; its id."""
    with writing(ledger.engine) as tx:
        new = NewEntry(scope="s", key=key, tenant="a", job_id="j", lane=0)
        return entries.lead(tx, [new], passed=range(1_000)).leaders[key].entry_id


def audited(ledger, entry_ids):
    """Audits of these, which wait; their ids."""
    with writing(ledger.engine) as tx:
        for entry_id in entry_ids:
            NewAudit(
                id=f"audit-{entry_id}", job_id="j", entry_id=entry_id, tenant="a", scope="s", similarity=0.9,
                stratum=0, share=1.0, question="Who?", served="Ann.",
            ).write(tx)  # fmt: skip
    return [f"audit-{entry_id}" for entry_id in entry_ids]


class Meeting:
    """A row in the middle of a group's: there another call comes in, and runs until it has ended or waits."""

    def __init__(self, ledger, call):
        self._ledger, self._call = ledger, call

    def write(self, _connection):
        self.meanwhile = Meanwhile(self._ledger, self._call)


def written(ledger, started, *rows):
    first, *others = (row.job_id for row in started.steps)
    settled = [goes_on(first)._replace(outcome=Done(rows=rows)), *(goes_on(job_id) for job_id in others)]
    return ledger.complete(started.claim_id, settled, ran_ms=1, quantum_ms=9)


def meet(ledger, started, rows, call):
    """Another call comes between two rows of a group: both go through; what the call came to."""
    first, second = rows
    meeting = Meeting(ledger, call)
    assert written(ledger, started, first, meeting, second)
    return meeting.meanwhile.result()


def test_answers_that_are_disallowed_in_other_orders(ledger, begun):
    a, b = live(ledger, 2)
    ours, theirs = (Disallow(a, "no"), Disallow(b, "no")), (Disallow(b, "no"), Disallow(a, "no"))
    assert meet(ledger, begun[0], ours, lambda: written(ledger, begun[1], *theirs))
    assert ledger.read(select(ENTRIES.c.state)) == [("dead",)] * 2


def test_audits_that_find_the_same_answers_wrong_in_other_orders(ledger, begun):
    a, b = live(ledger, 2)
    of_a, of_b = audited(ledger, [a, b])
    ours = (Audited(of_b, "wrong", "it is"), Audited(of_a, "wrong", "it is"))
    assert meet(ledger, begun[0], ours, lambda: written(ledger, begun[1], Disallow(a, "no"), Disallow(b, "no")))
    assert ledger.read(select(ENTRIES.c.state)) == [("dead",)] * 2
    assert ledger.read(select(AUDITS.c.label)) == [("wrong",)] * 2


def test_an_answer_that_takes_anothers_place_while_both_are_recalled(ledger, begun):
    old, other = live(ledger, 2)
    new = pending(ledger, "k0")
    ours = (Disallow(other, "no"), Admit(new, b"{}", 1.0, 1_000))
    found = meet(ledger, begun[0], ours, lambda: ledger.of(Answers).recall([old, other, new], "wrong"))
    assert (found.killed, found.withdrawn) == (1, 0)
    assert ledger.read(select(ENTRIES.c.state)) == [("dead",)] * 3


def test_a_purge_of_answers_whose_audits_come_in(ledger, begun):
    a, b = live(ledger, 2)
    of_a, of_b = audited(ledger, [a, b])
    everything = EntryFilter(made_before=2**62)
    ours = (Audited(of_b, "unknown", "?"), Audited(of_a, "unknown", "?"))
    assert meet(ledger, begun[0], ours, lambda: ledger.of(Answers).purge(everything, 0, "purged")) == (2, None)
    assert ledger.read(select(AUDITS.c.label, AUDITS.c.served)) == [("unknown", None)] * 2


def test_two_groups_that_begin_to_make_the_same_answers_in_other_orders(ledger):
    a, b = (NewEntry(scope="s", key=key, tenant="a", job_id="first", lane=0) for key in "ab")
    with writing(ledger.engine) as tx:
        entries.lead(tx, [a, b])
        theirs = [replace(b, job_id="second"), replace(a, job_id="second")]
        meanwhile = Meanwhile(ledger, lambda: ledger.of(Answers).lead(theirs))
        assert not meanwhile.ended
    assert {leader.job_id for leader in meanwhile.result().leaders.values()} == {"first"}
    assert ledger.read(select(ENTRIES.c.job_id, ENTRIES.c.state)) == [("first", "pending")] * 2


def test_one_that_begins_to_make_an_answer_that_comes_to_live_at_that_moment(ledger, begun):
    new = pending(ledger, "k")
    asks = NewEntry(scope="s", key="k", tenant="a", job_id="later", lane=0)
    meeting = Meeting(ledger, lambda: ledger.of(Answers).lead([asks]))
    assert written(ledger, begun[0], Admit(new, b"{}", 1.0, 60_000), meeting)
    found = meeting.meanwhile.result()
    assert (found.leaders, list(found.live)) == ({}, ["k"])
    assert ledger.read(select(ENTRIES.c.state)) == [("live",)]


def test_two_attempts_at_an_endpoint_that_fail_at_once(ledger):
    ledger.of(Webhooks).add(
        endpoint_id="we_1", tenant="a", most=1, name="n", url="u", events=(), whole=False, secret="s", hint="h"
    )

    def fails(health, _now):
        return replace(health, failures=health.failures + 1)

    with writing(ledger.engine) as tx:
        endpoints.judge(tx, "we_1", fails)
        meanwhile = Meanwhile(ledger, lambda: ledger.of(Webhooks).note("we_1", [], fails))
        assert not meanwhile.ended
    assert meanwhile.result()[1].failures == 2
    assert ledger.of(Webhooks).endpoint("we_1").health.failures == 2


def test_a_step_whose_job_expires_is_not_claimed_meanwhile(ledger, job):
    """Its lease could be given back at once, and who does that would wait for the steps in another order."""
    late = job(deadline=1)
    ledger.ingest([late])
    with ledger.engine.connect() as other:
        append(other, DEAD_LETTERS, [letter_row(burial(late.id), 0)])
        reaping = Meanwhile(ledger, lambda: ledger.reap(3))
        assert not reaping.ended
        claimed = ledger.claim([Wanted("q", 1, 1, 1)], lease_ms=LEASE, sender="b").claims
        other.rollback()
    assert (reaping.result().expired, claimed) == (1, ())
