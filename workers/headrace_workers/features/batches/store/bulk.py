"""The batches, as the ledger keeps them. Each method is one transaction."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.features.batches.store import (
    batch_ends,
    batch_feeding,
    batch_outputs,
    batch_rewriting,
    batches,
    history,
)
from headrace_workers.features.batches.store.batch_feeding import Chunk, Fed
from headrace_workers.features.batches.store.batch_outputs import EndedLine, Fate, JobEnd
from headrace_workers.features.batches.store.batch_rewriting import Anew
from headrace_workers.features.batches.store.batches import NewBatch
from headrace_workers.features.batches.store.files import Growth


class Batches(LedgerStore):
    """The batches of one ledger. Thread-safe. Unavailable when the database does not answer."""

    def create(self, new: NewBatch) -> tuple[Row[Any], bool]:
        """Write down a batch; whether it is new. One of the same tenant and key is there already."""
        with writing(self._engine) as tx:
            return batches.create(tx, new)

    def batch(self, batch_id: str, tenant: str | None = None) -> Row[Any] | None:
        """A batch; with `tenant` only where it is that one's."""
        with reading(self._engine) as tx:
            return batches.batch(tx, batch_id, tenant)

    def keyed(self, tenant: str, key: str) -> Row[Any] | None:
        """The batch that was submitted under this key."""
        with reading(self._engine) as tx:
            return batches.keyed(tx, tenant, key)

    def batches(self, tenant: str | None = None, after: str | None = None, limit: int = 100) -> list[Row[Any]]:
        """All batches or a tenant's, newest first, those that come after the batch `after`."""
        with reading(self._engine) as tx:
            return batches.batches(tx, tenant, after, limit)

    def cancel(self, batch_id: str, tenant: str | None = None) -> Row[Any] | None:
        """Let a batch be cancelled, unless it is over; how it stands then, None where there is no such batch."""
        with writing(self._engine) as tx:
            return batches.wish_cancel(tx, batch_id, tenant)

    def lines(self, number: int, *, after: int = 0, limit: int = 1_000, state: str | None = None) -> list[Row[Any]]:
        """The lines of a batch behind this one, in order: number, custom_id, state, code, reason."""
        with reading(self._engine) as tx:
            return batches.lines(tx, number, after=after, limit=limit, state=state)

    def codes(self, number: int) -> Counter[str]:
        """Why lines of a batch failed: how many, by code."""
        with reading(self._engine) as tx:
            return batches.codes(tx, number)

    def lately(self, stage: str, limit: int) -> Sequence[Row[Any]]:
        """The generation jobs that ended last with an answer: payload, terminal, started_at, ended_at of the stage."""
        with reading(self._engine) as tx:
            return history.lately(tx, stage, limit)

    # -- the bridge

    def unfinished(self) -> list[Row[Any]]:
        """The batches that are not over, oldest first."""
        with reading(self._engine) as tx:
            return batches.unfinished(tx)

    def add_crashes(self, number: int, count: int) -> None:
        """Add to how often a bridge ended while it read the input of a batch."""
        with writing(self._engine) as tx:
            batches.add_crashes(tx, number, count)

    def feed(self, number: int, at: int, chunk: Chunk) -> Fed | None:
        """Take lines in, exactly once; None when others were there before. See `batch_feeding.feed`."""
        with writing(self._engine) as tx:
            return batch_feeding.feed(tx, number, at, chunk)

    def ended(self, number: int, limit: int, max_bytes: int, *, together: bool) -> list[EndedLine]:
        """Lines that are in no output yet and of which all is known; with `together` also those of several jobs."""
        with reading(self._engine) as tx:
            found = batch_outputs.ended(tx, number, limit, max_bytes)
            found += batch_outputs.ended_together(tx, number, limit) if together else []
            return found + batch_outputs.refused(tx, number, limit)

    def collected(self, number: int, fates: Sequence[Fate], output: Growth | None, errors: Growth | None) -> None:
        """These lines are in the files now. Overtaken when another process has said so before."""
        with writing(self._engine) as tx:
            batch_outputs.collected(tx, number, fates, output, errors)

    def every_line(self, number: int, state: str) -> Iterator[Row[Any]]:
        """All lines of a batch in this state, in order; as `lines`, of which no more are held at a time."""
        after = 0
        while found := self.lines(number, after=after, state=state):
            yield from found
            after = found[-1].number

    def ends(self, job_ids: Sequence[str]) -> dict[str, JobEnd]:
        """How these jobs ended, of those that have, and that are not forgotten."""
        with reading(self._engine) as tx:
            return batch_rewriting.ends(tx, job_ids)

    def rewritten(self, number: int, anew: Anew) -> None:
        """A file of a batch was written anew without some lines. Overtaken when another process was there before."""
        with writing(self._engine) as tx:
            batch_rewriting.rewritten(tx, number, anew)

    def let_go(self, number: int, tenant: str, reason: str, limit: int) -> int:
        """Cancel jobs of a batch that are under way, a bounded number; how many."""
        with writing(self._engine) as tx:
            return batch_ends.let_go(tx, number, tenant, reason, limit)

    def is_all_ended(self, number: int) -> bool:
        """Whether no job of the batch is under way."""
        with reading(self._engine) as tx:
            return batch_ends.is_all_ended(tx, number)

    def finalize(self, number: int) -> None:
        """All its jobs have ended: what is left is to write down."""
        with writing(self._engine) as tx:
            batch_ends.finalize(tx, number)

    def stop_reading(self, number: int, reason: str) -> None:
        """The input cannot be read on: what was taken is brought to its end, and the batch has failed."""
        with writing(self._engine) as tx:
            batch_ends.stop_reading(tx, number, reason)

    def finish(self, number: int, digests: Mapping[str, str]) -> Row[Any] | None:
        """End a batch whose lines are all in its files; the row as it is then, None when it is not so."""
        with writing(self._engine) as tx:
            return batch_ends.finish(tx, number, digests)

    def forget(self, older_than_ms: int) -> bool:
        """Forget a bounded part of what is over; whether there is more."""
        with writing(self._engine) as tx:
            return batches.forget(tx, older_than_ms)
