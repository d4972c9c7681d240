"""What people and their clients ask of the ledger: how all stands, what was set aside, and what is to become of it."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from headrace_workers.core.ledger import cancel, counts, held, lookup, outbox, repetitions, replay
from headrace_workers.core.ledger import incidents as troubles
from headrace_workers.core.ledger.outbox import SetAside
from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.sql.engines import Engines


class ForPeople(Engines):
    """The part of a `Ledger` that the command line uses, and whoever looks. Each method is one transaction."""

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

    def held_of(self, job_id: str) -> Row[Any] | None:
        """What is held of a job, with what its step is given: see `held.of_job`."""
        with reading(self._engine) as tx:
            return held.of_job(tx, job_id)

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

    def ended_jobs(self) -> tuple[int, int]:
        """How many jobs have ended, however they did, and how many of them with a result."""
        with reading(self._engine) as tx:
            return counts.ended_jobs(tx)

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
