"""What follows is handed out in the transaction that made it."""

from sqlalchemy import select
from tests.workers.ledger.test_complete import onward

from headrace_workers.ledger.hand_on import Onward
from headrace_workers.ledger.tables import STEPS


def finish(ledger, job, claim, room, jobs=3):
    """Run jobs whose next step waits in the queue "m", with so much room there; (their ids, what was handed on)."""
    ledger.ingest([job() for _ in range(jobs)])
    begun = ledger.start(claim().id, worker="w", lease_ms=60_000)
    done = ledger.complete(
        begun.claim_id, [onward(row.job_id) for row in begun.steps], ran_ms=1, quantum_ms=5_000,
        onward=Onward({("m", 1): room}, "w", 60_000),
    )  # fmt: skip
    return [row.job_id for row in begun.steps], done.handed_on


def states(ledger):
    """How many steps of the next stage are in which state, and their attempts."""
    query = select(STEPS.c.state, STEPS.c.attempts).where(STEPS.c.stage == "moderate")
    return sorted(tuple(row) for row in ledger.read(query))


def test_what_there_is_room_for_is_leased_at_once(ledger, job, claim):
    """The next worker starts it without a bridge; it completes like any other claim."""
    jobs, (handed,) = finish(ledger, job, claim, room=1)
    assert (handed.queue, handed.stage, handed.size) == ("m", "moderate", 3)
    assert states(ledger) == [("leased", 1)] * 3
    begun = ledger.start(handed.id, worker="v", lease_ms=60_000)
    assert sorted(row.job_id for row in begun.steps) == sorted(jobs)
    assert ledger.complete(handed.id, [], ran_ms=1, quantum_ms=5_000)


def test_without_room_it_is_ready_for_a_bridge(ledger, job, claim):
    """A full queue takes nothing more, and nothing is lost."""
    _, handed = finish(ledger, job, claim, room=0)
    assert (handed, states(ledger)) == ((), [("ready", 0)] * 3)


def test_what_was_handed_on_and_never_begun_is_given_back(ledger, job, claim):
    """A worker that stops leaves nothing leased, and this attempt never was."""
    finish(ledger, job, claim, room=1)
    assert ledger.release_unstarted("w") == 3
    assert states(ledger) == [("ready", 0)] * 3
