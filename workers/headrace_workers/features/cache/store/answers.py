"""The answers that may be given again, as the ledger keeps them. Each method is one transaction."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from headrace_workers.core.ledger import changes
from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.features.cache.store import entries, failed, purge, quota, recall_counts, recalled, uses
from headrace_workers.features.cache.store.failed import Failure
from headrace_workers.features.cache.store.purge import EntryFilter
from headrace_workers.features.cache.store.uses import Used


class Answers(LedgerStore):
    """The answers of one ledger. Thread-safe. Unavailable when the database does not answer."""

    def exact(self, keys: Collection[str]) -> dict[str, entries.Entry]:
        """The answers to these very requests that may be served, by key."""
        return entries.exact(self._reads, keys)

    def living(self, entry_ids: Collection[int]) -> dict[int, entries.Entry]:
        """Those of these answers that may still be served, by id."""
        return entries.living(self._reads, entry_ids)

    def lead(self, wanted: Sequence[entries.NewEntry], passed: Collection[int] = ()) -> entries.Led:
        """Let the first that asks for each of these requests make its answer; see `entries.lead`."""
        with writing(self._engine) as tx:
            return entries.lead(tx, wanted, passed)

    def withdraw(self, entry_id: int) -> bool:
        """Let the answer of a pending entry be made by nobody; whether it was pending."""
        with writing(self._engine) as tx:
            return entries.Withdraw(entry_id).write(tx)

    def changed(self, after: changes.Position, limit: int) -> list[changes.Change]:
        """What changed of answers since then, in order."""
        with reading(self._engine) as tx:
            return changes.follow(tx, after, limit)

    def lately(self, after: int, scopes: Collection[str], limit: int) -> list[changes.Change]:
        """What is new in these scopes since the change of this number: see `changes.lately`."""
        with reading(self._engine) as tx:
            return changes.lately(tx, after, scopes, limit)

    def in_the_making(self, entry_ids: Collection[int]) -> dict[int, entries.Leader]:
        """Who makes those of these answers that are being made at this moment, by id."""
        with reading(self._engine) as tx:
            return entries.in_the_making(tx, entry_ids)

    def failed(self, job_ids: Collection[str]) -> dict[str, Failure]:
        """Those of these jobs that are dead for what they ask: see `failed.failed`."""
        with reading(self._engine) as tx:
            return failed.failed(tx, job_ids)

    def mark(self, up_to: changes.Position) -> changes.Mark | None:
        """The last change of an answer up to a position; None where there is none."""
        with reading(self._engine) as tx:
            return changes.mark(tx, up_to)

    def stands(self, mark: changes.Mark) -> bool:
        """Whether who has followed up to there may go on: see `changes.stands`."""
        with reading(self._engine) as tx:
            return changes.stands(tx, mark)

    def snapshot(self, after: int, limit: int, *, making: bool = False) -> list[Any]:
        """Answers that likeness may find, or those that are being made: see `entries.snapshot`."""
        with reading(self._engine) as tx:
            return entries.snapshot(tx, after, limit, making=making)

    def of_job(self, job_id: str) -> list[recalled.AnswerOf]:
        """The answers that this job made, and those that it was given."""
        with reading(self._engine) as tx:
            return recalled.answers_of(tx, job_id)

    def recall(self, entry_ids: Sequence[int], reason: str) -> recalled.Recalled:
        """Give these answers to nobody any more, from now on."""
        with writing(self._engine) as tx:
            return recalled.recall(tx, entry_ids, reason)

    def outdate(self, wanted: Mapping[int, Collection[Used]], reason: str) -> set[int]:
        """Give those of these answers to nobody any more that do not rest on all documents named beside them; which."""
        with writing(self._engine) as tx:
            used = uses.of(tx, list(wanted))
            old = {entry_id for entry_id, documents in wanted.items() if set(documents) - used.get(entry_id, set())}
            entries.kill(tx, sorted(old), reason)
            return old

    def running(self, claim_ids: Sequence[int]) -> frozenset[int]:
        """Those of these claims that have not ended."""
        with reading(self._engine) as tx:
            return recalled.running(tx, claim_ids)

    def served(self, entry_ids: Collection[int], after: int, limit: int) -> list[Row[Any]]:
        """Whom these answers were given to, a bounded part: see `recalled.served`."""
        with reading(self._engine) as tx:
            return recalled.served(tx, entry_ids, after, limit)

    def given(self, job_id: str) -> list[Row[Any]]:
        """The answers that were given to this job, the latest first."""
        with reading(self._engine) as tx:
            return recalled.given(tx, job_id)

    def to_ask_again(self, job_ids: Sequence[str]) -> dict[str, Any]:
        """What those of these jobs that are known asked: id, tenant, kind, state, payload, correlationid; by id."""
        with reading(self._engine) as tx:
            return recalled.to_ask_again(tx, job_ids)

    def evict(self, most: int) -> int:
        """Put away the least valuable of a tenant that keeps more than `most`, a bounded number; how many."""
        with writing(self._engine) as tx:
            return quota.evict(tx, most)

    def count(self, wanted: EntryFilter) -> int:
        """How many answers that may be given a purge would put away."""
        with reading(self._engine) as tx:
            return purge.count(tx, wanted)

    def purge(self, wanted: EntryFilter, after: int, reason: str) -> tuple[int, int | None]:
        """Put away a bounded part of these answers: how many, and the `after` of the next call, if any."""
        with writing(self._engine) as tx:
            return purge.purge(tx, wanted, after, reason)

    def counts(self, tenant: str | None = None, since_ms: int | None = None) -> recall_counts.CacheCounts:
        """How well recall does, for one tenant or all."""
        with reading(self._engine) as tx:
            return recall_counts.counts(tx, tenant, since_ms)

    def scopes(
        self, tenant: str | None = None, since_ms: int | None = None
    ) -> dict[tuple[str, str], recall_counts.Kept]:
        """What was given and what is kept, by (tenant, scope)."""
        with reading(self._engine) as tx:
            return recall_counts.scopes(tx, tenant, since_ms)
