"""What bridges ask of the ledger: take in, hand out, relay, look after what others left."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from headrace_schemas import Topic
from headrace_workers.core.ledger import assign as hand_out
from headrace_workers.core.ledger import (
    cancel,
    claim,
    dead,
    duties,
    held,
    ingest,
    leases,
    lookup,
    outbox,
    positions,
    prune,
    readers,
    recover,
    refusals,
    repetitions,
    units,
    unrun,
)
from headrace_workers.core.ledger import incidents as troubles
from headrace_workers.core.ledger.records import ReceivedReview
from headrace_workers.core.sql.database import clock, reading, writing
from headrace_workers.core.sql.engines import Engines
from headrace_workers.features.access.store import token_quotas, usage
from headrace_workers.features.cache.store import entries
from headrace_workers.features.quality.store import labels

_EXPIRED_AT_ONCE = 5_000  # jobs, in several transactions


class ForBridges(Engines):
    """The part of a `Ledger` that bridges use. Each method is a transaction, or a few."""

    def ingest(
        self,
        jobs: Sequence[ingest.NewJob],
        refused: Sequence[dead.Burial] = (),
        cancellations: Sequence[cancel.Cancellation] = (),
        following: Mapping[positions.Place, positions.Advance] | None = None,
        room: hand_out.Room | None = None,
        said: Sequence[ReceivedReview] = (),
    ) -> ingest.Taken:
        """Take in what one poll brought, in one transaction.

        `following` are the positions that come next; `PositionsMoved`, and nothing is written, where the ledger's are
        others than those before. With `room`, first steps are handed out at once where there is
        room: the caller sends them.

        What comes again with the same content is passed over, also where it is refused now, such as after its
        deadline. What comes under the id of another job, or is about another tenant's, is told. What gateways reserved
        for records that do not become jobs is given back.
        """
        with writing(self._engine) as tx:
            tenants = {each.tenant for each in refused if each.tenant is not None}
            taken, outcomes = _take_in(tx, jobs, cancellations, room, tenants)
            letters = repetitions.news(tx, refused) + repetitions.conflicts(tx, taken.known)
            letters += [refusals.over_quota(job.record, job.id, job.tenant, why) for job, why in taken.over]
            repetitions.release_tokens(tx, refused, [*taken.known, *(job for job, _ in taken.over)])
            letters += cancel.foreign(cancellations, outcomes)
            letters += labels.take(tx, said)
            if letters:
                refusals.refuse(tx, letters, clock(tx))
            positions.advance(tx, following or {})
        return taken

    def share(self, reader: str, places: Collection[positions.Place], lease_ms: int) -> frozenset[positions.Place]:
        """Those of these places that this bridge is to read until its lease ends."""
        with writing(self._volatile) as tx:
            return readers.share(tx, reader, places, lease_ms)

    def leave(self, reader: str) -> None:
        """This bridge reads no more: others take over at once."""
        with writing(self._volatile) as tx:
            readers.leave(tx, reader)

    def full_positions(self) -> dict[positions.Place, positions.Position]:
        """How far ingest is, with what stands beside it."""
        with reading(self._engine) as tx:
            return positions.read(tx)

    def go_back(self, place: positions.Place, expected: int, to: positions.Position) -> None:
        """Read a log again from an earlier position, since it does not match what was read."""
        with writing(self._engine) as tx:
            positions.go_back(tx, place, expected, to)

    def positions(self) -> dict[positions.Place, int]:
        """How far ingest is."""
        with reading(self._engine) as tx:
            return positions.positions(tx)

    def claim(self, wanted: Sequence[claim.Wanted], *, lease_ms: int, sender: str) -> claim.Claimed:
        """Hand out the most urgent groups of each wanted queue and lane."""
        with reading(self._volatile) as tx:
            heads = claim.heads(tx, wanted)
        if not heads:
            return claim.Claimed()  # mostly there is nothing, and no lock was needed to see that
        with writing(self._volatile) as tx:
            return claim.claim(tx, wanted, heads, lease_ms=lease_ms, sender=sender)

    def release_unstarted(self, sender: str) -> int:
        """Give back what this bridge or worker sent out and nobody began; the number of steps."""
        with writing(self._volatile) as tx:
            return leases.release(tx, leases.unstarted_of(tx, sender))

    def release(self, claim_ids: Sequence[int], delay_ms: int = 0, reason: str | None = None) -> int:
        """Give back claims, to be handed out at once or after a while; the number of steps."""
        with writing(self._volatile) as tx:
            return leases.release(tx, claim_ids, delay_ms, reason)

    def outbox(
        self, limit: int, max_bytes: int = 2**62, *, after: int = 0, unread: Collection[Topic] = ()
    ) -> list[outbox.OutboxRow]:
        """The oldest events that wait to be published, bounded in number and bytes; see `outbox.peek`."""
        with reading(self._engine) as tx:
            return outbox.peek(tx, limit, max_bytes, after=after, unread=unread)

    def follow(self, following: Sequence[units.NewUnit], room: hand_out.Room | None = None) -> units.Followed:
        """Write the units that follow from events; how many were new, and which of their groups were handed out."""
        with writing(self._volatile) as tx:
            return units.follow(tx, following, room)

    def published(self, ids: Sequence[int]) -> None:
        """Forget events that Kafka has acknowledged."""
        with writing(self._volatile) as tx:
            outbox.remove(tx, ids)

    def set_aside(self, reasons: Mapping[int, str]) -> None:
        """Leave events be that Kafka refuses, with the reason."""
        with writing(self._engine) as tx:
            outbox.set_aside(tx, reasons)

    def jobs_of(self, job_ids: Sequence[str]) -> dict[str, tuple[str, bytes]]:
        """Kind and content of those of these jobs that are known."""
        with reading(self._engine) as tx:
            return lookup.jobs_of(tx, job_ids)

    def hold(self, duty: str, holder: str, lease_ms: int) -> bool:
        """Take or keep a duty that one bridge at a time does."""
        with writing(self._volatile) as tx:
            return duties.hold(tx, duty, holder, lease_ms)

    def lay_down(self, holder: str, duty: str | None = None) -> None:
        """Give up a duty, or all."""
        with writing(self._volatile) as tx:
            duties.lay_down(tx, holder, duty)

    def tell(self, holder: str, duty: str, said: Mapping[str, str]) -> None:
        """All that this holder cannot do of a duty now, a reason for each subject."""
        with writing(self._volatile) as tx:
            troubles.tell(tx, holder, duty, said)

    def look(self, lease_ms: int) -> int:
        """Note that a bridge looks for leases that ran out; by how many ms they were put off before, mostly 0."""
        with writing(self._volatile) as tx:
            return leases.look(tx, lease_ms)

    def due(self) -> recover.Due:
        """What `reap` would find."""
        with reading(self._volatile) as tx:
            return recover.due(tx)

    def withhold_late(self, longest_ms: int) -> int:
        """End what has been held for longer, a bounded part of it; how many."""
        with writing(self._engine) as tx:
            return held.withhold_late(tx, longest_ms)

    def reap(self, max_crashes: int) -> recover.Reaped:
        """Take back what leases that ran out held, end what expired, and make ready what was delayed."""
        with writing(self._engine) as tx:
            entries.expire(tx)
        with writing(self._engine) as tx:
            promoted = recover.promote(tx)
        with writing(self._engine) as tx:
            promoted += recover.wake_missed(tx)
        with writing(self._engine) as tx:
            promoted += recover.retry_held(tx)
        expired, some = 0, 1
        while some and expired < _EXPIRED_AT_ONCE:
            with writing(self._engine) as tx:
                some = recover.expire(tx)
            expired += some
        with writing(self._engine) as tx:
            return replace(recover.reap(tx, max_crashes), promoted=promoted, expired=expired, more=some > 0)

    def waits(self, queue: str, longer_than_ms: int) -> bool:
        """Whether anything has waited in this queue for so long, handed out or not."""
        with reading(self._volatile) as tx:
            return unrun.waits(tx, queue, longer_than_ms)

    def move_on(
        self, stage: str, queue: str, where: Callable[[Any], unrun.Move | unrun.Stay | None], reason: str
    ) -> int:
        """Let the steps of a stage that nobody begins in this queue wait where `where` says; how many moved. Those that
        are to stay get the reason."""
        with writing(self._engine) as tx:
            unrun.take_back(tx, queue)
        with writing(self._engine) as tx:
            found = [where(row) for row in unrun.ready(tx, stage, queue, reason)]
            moves = [each for each in found if isinstance(each, unrun.Move)]
            unrun.move(tx, stage, moves)
            unrun.stay(tx, stage, [each for each in found if isinstance(each, unrun.Stay)], reason)
        return len(moves)

    def count_usage(self) -> bool:
        """Count what the jobs used that ended since the last call, a bounded number; whether there is more."""
        with writing(self._volatile) as tx:
            return usage.count(tx, usage.settled(tx)).more

    def prune(self, older_than_ms: int, of_units: Mapping[str, int] | None = None) -> bool:
        """Forget what is old, a bounded number a call; whether there is more. `of_units`: other ages (ms), by stage."""
        with writing(self._volatile) as tx:
            return prune.prune(tx, older_than_ms, of_units or {})


def _take_in(
    tx: Connection,
    jobs: Sequence[ingest.NewJob],
    cancellations: Sequence[cancel.Cancellation],
    room: hand_out.Room | None,
    beside: Collection[str],
) -> tuple[ingest.Taken, Sequence[cancel.CancelOutcome]]:
    """Take jobs in and cancel others, in the lock order that `complete.py` states: claims, jobs, steps, quotas, turns.
    A job that comes with its cancellation is written, and never begins.
    """
    if not cancellations:
        return ingest.ingest(tx, jobs, room, beside), ()
    leases.hold(tx, [wish.job_id for wish in cancellations])
    written = ingest.write(tx, jobs, cancel.unknown_rows(cancellations))
    outcomes = cancel.cancel(tx, cancellations, written.ahead)
    cancelled = {
        wish.job_id
        for wish, outcome in zip(cancellations, outcomes, strict=True)
        if outcome in ("cancelled", "cancelled_ahead")
    }
    token_quotas.hold(tx, {job.tenant for job in jobs} | {wish.tenant for wish in cancellations} | set(beside))
    return ingest.take_in(tx, jobs, written, room, cancelled, beside), outcomes
