from sqlalchemy import select, update
from tests.workers.core.ledger.test_complete import goes_on
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.ledger.claims import LARGEST_BYTES, QueueRoom, Wanted
from headrace_workers.core.ledger.outcome import Done, Retry
from headrace_workers.core.ledger.steps import Tried
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import STEPS


def begin(ledger, job, claim, jobs=3):
    ledger.ingest([job() for _ in range(jobs)])
    return ledger.start(claim().id, worker="w", lease_ms=60_000)


def finish(ledger, begun, room=0):
    """Run these jobs, whose next step waits in the queue "m", with so much room there."""
    settled = [goes_on(row.job_id) for row in begun.steps]
    handing = QueueRoom({("m", 1): room}, "w", 60_000)
    return ledger.complete(begun.claim_id, settled, ran_ms=1, quantum_ms=5_000, room=handing)


def states(ledger):
    """How many steps of the next stage are in which state, and their attempts."""
    query = select(STEPS.c.state, STEPS.c.attempts).where(STEPS.c.stage == "moderate")
    return sorted(tuple(row) for row in ledger.read(query))


def test_what_there_is_room_for_is_leased_at_once(ledger, job, claim):
    before = begin(ledger, job, claim)
    (handed,) = finish(ledger, before, room=1).assigned
    assert (handed.queue, handed.stage, handed.size) == ("m", "moderate", 3)
    assert states(ledger) == [("leased", 1)] * 3
    begun = ledger.start(handed.id, worker="v", lease_ms=60_000)
    assert sorted(row.job_id for row in begun.steps) == sorted(row.job_id for row in before.steps)
    assert ledger.complete(handed.id, [], ran_ms=1, quantum_ms=5_000)


def test_without_room_it_is_ready_for_a_bridge(ledger, job, claim):
    done = finish(ledger, begin(ledger, job, claim), room=0)
    assert (done.assigned, states(ledger)) == ((), [("ready", 0)] * 3)


def test_what_was_handed_on_and_never_begun_is_given_back(ledger, job, claim):
    finish(ledger, begin(ledger, job, claim), room=1)
    assert ledger.release_unstarted("w") == 3
    assert states(ledger) == [("ready", 0)] * 3


def tried(job_id, outcome, delay_ms=None):
    """A step that is done, with one behind it that its worker has tried at once."""
    done = goes_on(job_id)
    return done._replace(following=(done.following[0]._replace(tried=Tried(5, outcome, delay_ms)),))


def test_what_a_worker_did_at_once_is_handed_to_nobody(ledger, job, claim):
    begun = begin(ledger, job, claim, jobs=2)
    one, two = (row.job_id for row in begun.steps)
    settled = [tried(one, Done()), tried(two, Retry("busy"), 60_000)]
    done = ledger.complete(
        begun.claim_id, settled, ran_ms=1, quantum_ms=5_000, room=QueueRoom({("m", 1): 9}, "w", 60_000)
    )
    assert (done.assigned, ledger.overview().claims) == ((), 0)
    columns = (STEPS.c.state, STEPS.c.attempts, STEPS.c.payload, STEPS.c.reason, STEPS.c.started_at)
    after, later = (
        ledger.read(select(*columns).where(STEPS.c.job_id == i, STEPS.c.stage == "moderate")) for i in (one, two)
    )
    assert after == [("done", 1, None, None, 5)]
    assert later == [("waiting", 1, b"{}", "busy", 5)]
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.state == "waiting").values(ready_at=0))
    ledger.reap(3)
    wanted = [Wanted("m", 1, 1, 9)]
    (again,) = ledger.claim(wanted, lease_ms=60_000, sender="b").claims
    (row,) = ledger.start(again.id, worker="v", lease_ms=60_000).steps
    assert (row.job_id, row.attempts, row.payload) == (two, 2, b"{}")


def group(job_id, key, size=0):
    """A step that is done, with one of this group behind it, of so many bytes."""
    done = goes_on(job_id)
    return done._replace(following=(done.following[0]._replace(group_key=key, read_bytes=size),))


def test_each_group_that_is_handed_on_takes_goes_on(ledger, job, claim):
    begun = begin(ledger, job, claim)
    settled = [group(row.job_id, f"m{n % 2}") for n, row in enumerate(begun.steps)]
    handing = QueueRoom({("m", 1): 1}, "w", 60_000)
    done = ledger.complete(begun.claim_id, settled, ran_ms=1, quantum_ms=5_000, room=handing)
    assert [sent.size for sent in done.assigned] == [2]
    assert states(ledger) == [("leased", 1), ("leased", 1), ("ready", 0)]


def test_what_is_handed_on_is_bounded_in_bytes(ledger, job, claim):
    begun = begin(ledger, job, claim)
    settled = [group(row.job_id, "m", LARGEST_BYTES // 2) for row in begun.steps]
    handing = QueueRoom({("m", 1): 9}, "w", 60_000)
    done = ledger.complete(begun.claim_id, settled, ran_ms=1, quantum_ms=5_000, room=handing)
    assert [sent.size for sent in done.assigned] == [2, 1]
    assert states(ledger) == [("leased", 1)] * 3
