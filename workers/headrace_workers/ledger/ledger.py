"""The ledger: the memory of every accepted job. Each method is one transaction over the rooms beside this file.

Errors: `Unavailable` when the database does not answer; everything may be tried again, since each transaction
either happened whole or not at all, and repeating one that did happen changes nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from sqlalchemy import Engine, Row, select

from headrace_schemas import Topic
from headrace_workers.ledger import (
    accepted,
    cancel,
    changes,
    claim,
    complete,
    counts,
    dead,
    duties,
    entries,
    followers,
    hand_out,
    held,
    ingest,
    leases,
    lookup,
    outbox,
    positions,
    pressure,
    prune,
    readers,
    recover,
    refusals,
    repetitions,
    replay,
    start,
    token_quotas,
    told,
    troubles,
    units,
    unrun,
    usage,
)
from headrace_workers.ledger.answers import Answers
from headrace_workers.ledger.audits import Audits
from headrace_workers.ledger.bases import KnowledgeBases
from headrace_workers.ledger.bulk import Batches
from headrace_workers.ledger.database import brief, clock, connect, lose_together, reading, writing
from headrace_workers.ledger.keys import ApiKeys
from headrace_workers.ledger.outbox import SetAside
from headrace_workers.ledger.responses import Responses
from headrace_workers.ledger.stored import StoredFiles
from headrace_workers.ledger.tables import IDENTITY
from headrace_workers.ledger.vector_stores import VectorStores
from headrace_workers.ledger.webhooks import Webhooks


class Ledger:
    """All that is known of jobs. Thread-safe; must not be carried over a fork (call `close` in the parent before)."""

    def __init__(self, engine: Engine, volatile: Engine | None = None) -> None:
        self._engine = engine
        # For hand-outs, starts, renewals and duties: a crash of the database that forgets one of them looks like a
        # lease that ran out, or makes an event be published again under the same id.
        self._volatile = volatile or engine

    @classmethod
    def at(cls, url: str) -> "Ledger":
        """The ledger at a database URL: `sqlite:///PATH` or `postgresql+psycopg://…`."""
        engine, volatile = connect(url), connect(url, durable=False)
        lose_together(engine, volatile)
        return cls(engine, volatile)

    @property
    def engine(self) -> Engine:
        """The engine, for migrations and for reading in tests."""
        return self._engine

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
        self._volatile.dispose()

    def now(self) -> int:
        """The database's clock, in ms since 1970."""
        with reading(self._engine) as tx:
            return clock(tx)

    @cached_property
    def identity(self) -> str:
        """Which ledger this is: no two have the same."""
        with reading(self._engine) as tx:
            return str(tx.execute(select(IDENTITY.c.id)).scalar_one())

    # -- the bridge

    def ingest(
        self,
        jobs: Sequence[ingest.NewJob],
        refused: Sequence[dead.Burial] = (),
        cancellations: Sequence[cancel.Cancellation] = (),
        following: Mapping[positions.Place, int] | None = None,
        room: hand_out.Room | None = None,
    ) -> ingest.Taken:
        """Take in what one poll brought, in one transaction.

        `following` are the offsets that come next. With `room`, first steps are handed out at once where there is
        room: the caller sends them.

        What comes again with the same content is passed over, also where it is refused now, such as after its
        deadline. What comes under the id of another job, or asks to cancel another tenant's, is told.
        """
        with writing(self._engine) as tx:
            taken = ingest.ingest(tx, jobs, room)
            letters = repetitions.news(tx, refused) + repetitions.conflicts(tx, taken.known)
            letters += [refusals.over_quota(job.record, job.id, job.tenant, why) for job, why in taken.over]
            letters += cancel.foreign(cancellations, cancel.cancel(tx, cancellations))
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

    def published(self, ids: Sequence[int], following: Sequence[units.NewUnit] = ()) -> None:
        """Forget events that Kafka has acknowledged, and write the units that follow from them."""
        with writing(self._volatile) as tx:
            outbox.remove(tx, ids)
            units.follow(tx, following)

    def set_aside(self, reasons: Mapping[int, str], following: Sequence[units.NewUnit] = ()) -> None:
        """Leave events be that Kafka refuses, with the reason; what follows from them does so all the same."""
        with writing(self._engine) as tx:
            outbox.set_aside(tx, reasons)
            units.follow(tx, following)

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

    def reap(self, max_crashes: int) -> recover.Reaped:
        """Take back what leases that ran out held, end what expired, and make ready what was delayed."""
        with writing(self._engine) as tx:
            entries.expire(tx)
        with writing(self._engine) as tx:
            promoted = recover.promote(tx)
        with writing(self._engine) as tx:
            promoted += recover.wake_missed(tx)
        with writing(self._engine) as tx:
            expired = recover.expire(tx)
        with writing(self._engine) as tx:
            return replace(recover.reap(tx, max_crashes), promoted=promoted, expired=expired)

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

    # -- the worker

    def start(self, claim_id: int, *, worker: str, lease_ms: int) -> start.Started | None:
        """Begin a claim; None when there is nothing to do any more."""
        with brief(self._volatile) as tx:
            return start.start(tx, claim_id, worker=worker, lease_ms=lease_ms)

    def renew(self, claim_ids: Sequence[int], lease_ms: int) -> frozenset[int]:
        """Put off the end of leases; those that still are leases."""
        with writing(self._volatile) as tx:
            return leases.renew(tx, claim_ids, lease_ms)

    def complete(
        self,
        claim_id: int,
        settled: Sequence[complete.Settled],
        *,
        ran_ms: int,
        quantum_ms: int,
        room: hand_out.Room | None = None,
    ) -> complete.Completed | None:
        """Write what came of a claim; None when the lease had been lost, and nothing was changed.

        With `room`, steps that follow are handed out at once where there is room: the caller sends them.
        """
        with writing(self._engine) as tx:
            return complete.complete(tx, claim_id, settled, ran_ms=ran_ms, quantum_ms=quantum_ms, room=room)

    def acquit(self, stage: str, job_ids: Sequence[str]) -> None:
        """A worker could not complete these steps, but lives: their crashes are forgotten."""
        with writing(self._volatile) as tx:
            leases.acquit(tx, stage, job_ids)

    # -- batches

    @cached_property
    def batches(self) -> Batches:
        """The batches, and what became of their lines."""
        return Batches(self._engine)

    @cached_property
    def files(self) -> StoredFiles:
        """The files that lie in the file store."""
        return StoredFiles(self._engine)

    # -- recall

    @cached_property
    def audits(self) -> Audits:
        """The audits of what likeness serves, and how its scopes stand."""
        return Audits(self._engine)

    @cached_property
    def answers(self) -> Answers:
        """The answers that may be given again."""
        return Answers(self._engine)

    @cached_property
    def knowledge(self) -> KnowledgeBases:
        """The documents that answers may rest on."""
        return KnowledgeBases(self._engine)

    @cached_property
    def stores(self) -> VectorStores:
        """Knowledge bases as OpenAI's door has them."""
        return VectorStores(self._engine)

    def horizon(self) -> changes.Position:
        """Whatever is read from now on holds all changes up to this position."""
        with reading(self._engine) as tx:
            return changes.horizon(tx)

    def followed(self, holder: str, kind: changes.Kind, position: changes.Position) -> None:
        """Say how far this process has followed changes of a kind."""
        with brief(self._volatile) as tx:
            followers.tell(tx, holder, kind, position)

    # -- webhooks

    @cached_property
    def webhooks(self) -> Webhooks:
        """Who is told of ends, and what they were told."""
        return Webhooks(self._engine, self._volatile)

    # -- the gateway

    @cached_property
    def keys(self) -> ApiKeys:
        """Who may come in over HTTP."""
        return ApiKeys(self._engine)

    def reserve(self, wishes: Sequence[accepted.Wish]) -> list[accepted.Reserved]:
        """Before jobs are let in: what is to be done with each; see `accepted.reserve`."""
        with writing(self._engine) as tx:
            return accepted.reserve(tx, wishes)

    def let_in(self, wishes: Sequence[accepted.Wish]) -> None:
        """Kafka has these jobs: whoever asks for them finds them, before they are taken in."""
        with writing(self._engine) as tx:
            accepted.publish(tx, wishes)

    def reserve_tokens(self, wants: Sequence[token_quotas.Want]) -> dict[str, token_quotas.Quota]:
        """Before jobs are sent: reserve what they may use; those for which not enough is left, see there."""
        with writing(self._engine) as tx:
            return token_quotas.reserve(tx, wants, adopt=False)

    def release_tokens(self, job_ids: Collection[str]) -> None:
        """These jobs were not sent after all."""
        with writing(self._engine) as tx:
            token_quotas.release(tx, job_ids)

    def quotas(self, tenants: Collection[str] | None = None) -> list[token_quotas.Quota]:
        """The quotas of all tenants that have one, or of these."""
        with reading(self._engine) as tx:
            return token_quotas.quotas(tx, tenants)

    def put_quota(self, tenant: str, tokens: int, period: token_quotas.Period) -> None:
        """Set a tenant's quota."""
        with writing(self._engine) as tx:
            token_quotas.put(tx, tenant, tokens, period)

    def remove_quota(self, tenant: str) -> bool:
        """Let a tenant use as much as it likes; whether it had a quota."""
        with writing(self._engine) as tx:
            return token_quotas.remove(tx, tenant)

    def look_for(self, known: Collection[str], unknown: Collection[str]) -> told.Looked:
        """Look once for the ends of all these jobs: see `told.look`."""
        with reading(self._engine) as tx:
            return told.look(tx, known, unknown)

    def standings(self, job_ids: Sequence[str]) -> dict[str, told.Standing]:
        """How each of these jobs stands; those of which nothing is known are left out."""
        with reading(self._engine) as tx:
            return told.standings(tx, job_ids)

    def pressure(self, places: Collection[pressure.Place]) -> pressure.Pressure:
        """How full the ledger is, and how long work waits in these places."""
        with reading(self._engine) as tx:
            return pressure.pressure(tx, places)

    def used(self, tenant: str, first: int, last: int) -> tuple[list[usage.Used], int]:
        """What a tenant used from one day to another (days since 1970), and until when (ms) it is counted."""
        with reading(self._engine) as tx:
            return usage.used(tx, tenant, first, last)

    def cancel_all(self, wishes: Sequence[cancel.Cancellation]) -> list[cancel.CancelOutcome]:
        """Cancel jobs, all in one transaction; what came of each, in their order."""
        with writing(self._engine) as tx:
            return cancel.cancel(tx, wishes)

    @cached_property
    def responses(self) -> Responses:
        """What responses were asked for."""
        return Responses(self._engine)

    # -- people and clients

    def troubles(self) -> list[troubles.Trouble]:
        """What processes say that they cannot do at the moment."""
        with reading(self._engine) as tx:
            return troubles.troubles(tx)

    def aside(self, limit: int = 100, key: str | None = None, ids: Sequence[int] | None = None) -> list[SetAside]:
        """Events that Kafka refused, oldest first."""
        with reading(self._engine) as tx:
            return outbox.aside(tx, limit, key, ids)

    def retry_outbox(self, ids: Sequence[int] | None = None) -> int:
        """Let these events, or all that Kafka refused, be published again; how many."""
        with writing(self._engine) as tx:
            return outbox.retry(tx, ids)

    def drop_outbox(self, ids: Sequence[int]) -> int:
        """Give up those of these events that Kafka refused, for good; how many."""
        with writing(self._engine) as tx:
            return outbox.drop(tx, ids)

    def cancel(self, wish: cancel.Cancellation) -> cancel.CancelOutcome:
        """Cancel a job."""
        with writing(self._engine) as tx:
            return cancel.cancel(tx, [wish])[0]

    def dead(self, wanted: replay.DeadFilter, limit: int = 100, *, whole: bool = True) -> list[Row[tuple[object, ...]]]:
        """Dead letters, newest first; without the records as they came where not `whole`."""
        with reading(self._engine) as tx:
            return replay.find(tx, wanted, limit, whole=whole)

    def held(self, limit: int = 100) -> list[Row[Any]]:
        """What waits for a person, longest first: job_id, tenant, stage, reason, since (ms)."""
        with reading(self._engine) as tx:
            return held.held(tx, limit)

    def release_held(self, job_ids: Sequence[str]) -> int:
        """Let the steps that are held of these jobs be run again; how many."""
        with writing(self._engine) as tx:
            return held.release_held(tx, job_ids)

    def withhold(self, job_ids: Sequence[str], reason: str) -> frozenset[str]:
        """End those of these jobs that are held, in `dead`; which."""
        with writing(self._engine) as tx:
            return held.withhold(tx, job_ids, reason)

    def replay(self, wanted: replay.DeadFilter, limit: int = 1_000) -> tuple[int, int]:
        """Give the dead another chance, a bounded part of them: (replayed, impossible because the original was cut)."""
        with writing(self._engine) as tx:
            return replay.replay(tx, wanted, limit)

    def active_jobs(self) -> int:
        """How many jobs have not ended."""
        with reading(self._engine) as tx:
            return counts.active_jobs(tx)

    def overview(self) -> counts.Overview:
        """How the whole stands."""
        with reading(self._engine) as tx:
            return counts.overview(tx)

    def job(self, job_id: str) -> lookup.JobView | None:
        """One job with its steps."""
        with reading(self._engine) as tx:
            return lookup.job(tx, job_id)

    def units_of(self, job_id: str, limit: int = 100) -> list[Row[Any]]:
        """What follows the events of a job, oldest first: id, stage, endpoint, state, attempts, reason."""
        with reading(self._engine) as tx:
            return lookup.units_of(tx, job_id, limit)

    def named(self, name: str, tenant: str | None, limit: int) -> list[str]:
        """The ids of the jobs that their sender knows by this name, newest first: see `lookup.named`."""
        with reading(self._engine) as tx:
            return lookup.named(tx, name, tenant, limit)

    def repeated(self, records: Sequence[repetitions.Said]) -> frozenset[int]:
        """The places of those records that say nothing new about a known job."""
        with reading(self._engine) as tx:
            return repetitions.repeated(tx, records)

    def terminals(self, job_ids: list[str]) -> dict[str, tuple[str, bytes]]:
        """The terminal events of those of these jobs that have ended."""
        with reading(self._engine) as tx:
            return lookup.terminals(tx, job_ids)

    def read(self, query: Any) -> list[Row[Any]]:
        """The rows of a query of the caller's own: for checks and reports."""
        with reading(self._engine) as tx:
            return list(tx.execute(query).all())
