"""What follows is handed out in the transaction that made it."""

from dataclasses import replace

from sqlalchemy import select, update
from tests.workers.ledger.test_complete import onward, record

from headrace_workers.ledger.complete import Advanced
from headrace_workers.ledger.database import writing
from headrace_workers.ledger.hand_on import Onward
from headrace_workers.ledger.sizing import LARGEST_BYTES
from headrace_workers.ledger.start import continued
from headrace_workers.ledger.tables import JOBS, STEPS


def begin(ledger, job, claim, jobs=3):
    """Jobs in the hands of the worker "w"."""
    ledger.ingest([job() for _ in range(jobs)])
    return ledger.start(claim().id, worker="w", lease_ms=60_000)


def finish(ledger, begun, room=0, own=frozenset()):
    """Run these jobs, whose next step waits in the queue "m", with so much room there."""
    settled = [onward(row.job_id) for row in begun.steps]
    handing = Onward({("m", 1): room}, "w", 60_000, own)
    return ledger.complete(begun.claim_id, settled, ran_ms=1, quantum_ms=5_000, onward=handing)


def keep(ledger, begun):
    """The group that follows, kept by a worker that does it itself."""
    done = finish(ledger, begun, room=1, own=frozenset({("m", "moderate")}))
    assert done.handed_on.sent == ()
    (kept,) = done.handed_on.kept
    return continued(begun, kept, done.now)


def states(ledger):
    """How many steps of the next stage are in which state, and their attempts."""
    query = select(STEPS.c.state, STEPS.c.attempts).where(STEPS.c.stage == "moderate")
    return sorted(tuple(row) for row in ledger.read(query))


def test_what_there_is_room_for_is_leased_at_once(ledger, job, claim):
    """The next worker starts it without a bridge; it completes like any other claim."""
    before = begin(ledger, job, claim)
    (handed,) = finish(ledger, before, room=1).handed_on.sent
    assert (handed.queue, handed.stage, handed.size) == ("m", "moderate", 3)
    assert states(ledger) == [("leased", 1)] * 3
    begun = ledger.start(handed.id, worker="v", lease_ms=60_000)
    assert sorted(row.job_id for row in begun.steps) == sorted(row.job_id for row in before.steps)
    assert ledger.complete(handed.id, [], ran_ms=1, quantum_ms=5_000)


def test_without_room_it_is_ready_for_a_bridge(ledger, job, claim):
    """A full queue takes nothing more, and nothing is lost."""
    done = finish(ledger, begin(ledger, job, claim), room=0)
    assert (done.handed_on.sent, states(ledger)) == ((), [("ready", 0)] * 3)


def test_what_was_handed_on_and_never_begun_is_given_back(ledger, job, claim):
    """A worker that stops leaves nothing leased, and this attempt never was."""
    finish(ledger, begin(ledger, job, claim), room=1)
    assert ledger.release_unstarted("w") == 3
    assert states(ledger) == [("ready", 0)] * 3


def test_what_a_worker_keeps_it_has_begun(ledger, job, claim):
    """It knows of it all that the ledger would tell; nobody else can begin it, and nobody gives it back as unbegun."""
    kept = keep(ledger, begin(ledger, job, claim))
    assert ledger.start(kept.claim_id, worker="v", lease_ms=60_000) is None
    assert ledger.release_unstarted("w") == 0
    told = ledger.start(kept.claim_id, worker="w", lease_ms=60_000)
    assert replace(told, now=0, steps=()) == replace(kept, now=0, steps=())
    assert sorted(told.steps) == sorted(kept.steps)
    settled = [Advanced(row.job_id, record(row.job_id, "headrace.result.v1")) for row in kept.steps]
    assert ledger.complete(kept.claim_id, settled, ran_ms=1, quantum_ms=5_000)
    assert (states(ledger), ledger.overview().done, ledger.overview().claims) == ([("done", 1)] * 3, 3, 0)


def test_a_kept_step_whose_job_was_cancelled_as_it_was_made_is_put_away(ledger, job, claim):
    """Cancelling cannot see a step that is not yet written: its end finds the job ended, and leaves nothing leased."""
    kept = keep(ledger, begin(ledger, job, claim))
    gone, *others = (row.job_id for row in kept.steps)
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).where(JOBS.c.id == gone).values(state="cancelled"))
    settled = [Advanced(row.job_id, record(row.job_id, "headrace.result.v1")) for row in kept.steps]
    assert ledger.complete(kept.claim_id, settled, ran_ms=1, quantum_ms=5_000)
    assert states(ledger) == [("cancelled", 1), ("done", 1), ("done", 1)]
    assert sorted(ledger.terminals([gone, *others])) == sorted(others)


def group(job_id, key, size=0):
    """A step that is done, with one of this group behind it, of so many bytes."""
    done = onward(job_id)
    return replace(done, following=(replace(done.following[0], group_key=key, read_bytes=size),))


def test_each_group_that_is_handed_on_takes_room(ledger, job, claim):
    """Of two that follow, with room for one, the other is left to a bridge."""
    begun = begin(ledger, job, claim)
    settled = [group(row.job_id, f"m{n % 2}") for n, row in enumerate(begun.steps)]
    handing = Onward({("m", 1): 1}, "w", 60_000)
    done = ledger.complete(begun.claim_id, settled, ran_ms=1, quantum_ms=5_000, onward=handing)
    assert [sent.size for sent in done.handed_on.sent] == [2]
    assert states(ledger) == [("leased", 1), ("leased", 1), ("ready", 0)]


def test_what_is_handed_on_is_bounded_in_bytes(ledger, job, claim):
    """A worker reads a claim whole: large events go in several."""
    begun = begin(ledger, job, claim)
    settled = [group(row.job_id, "m", LARGEST_BYTES // 2) for row in begun.steps]
    handing = Onward({("m", 1): 9}, "w", 60_000)
    done = ledger.complete(begun.claim_id, settled, ran_ms=1, quantum_ms=5_000, onward=handing)
    assert [sent.size for sent in done.handed_on.sent] == [2, 1]
