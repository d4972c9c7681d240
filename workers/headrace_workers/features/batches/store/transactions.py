"""The batches, as the ledger keeps them. Each method is one transaction."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Row

from headrace_workers.core.sql.database import reading
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.features.batches.store import batches as rows
from headrace_workers.features.batches.store import feeding, outputs
from headrace_workers.features.batches.store.outputs import EndedLine


class Batches(LedgerStore):
    """The batches of one ledger. Thread-safe. Unavailable when the database does not answer."""

    create = durable(rows.create)
    batch = reads(rows.batch)
    keyed = reads(rows.keyed)
    batches = reads(rows.batches)
    cancel = durable(rows.request_cancel)
    lines = reads(rows.lines)
    codes = reads(rows.codes)
    lately = reads(rows.lately)

    # -- the bridge

    unfinished = reads(rows.unfinished)
    add_crashes = durable(rows.add_crashes)
    feed = durable(feeding.feed)

    def ended(self, number: int, limit: int, max_bytes: int, *, together: bool) -> list[EndedLine]:
        """Return finished lines that are in no output yet; with `together`, lines of several jobs, too."""
        with reading(self._engine) as tx:
            lines = outputs.ended(tx, number, limit, max_bytes)
            lines += outputs.ended_together(tx, number, limit) if together else []
            return lines + outputs.refused(tx, number, limit)

    collected = durable(outputs.collected)

    def every_line(self, number: int, state: str) -> Iterator[Row[Any]]:
        """Yield all lines of a batch in this state, in order. No more of them are in memory than `lines` returns."""
        after = 0
        while found := self.lines(number, after=after, state=state):
            yield from found
            after = found[-1].number

    ends = reads(outputs.ends)
    rewritten = durable(outputs.rewritten)
    let_go = durable(rows.cancel_open_jobs)
    is_all_ended = reads(rows.is_all_ended)
    finalize = durable(rows.finalize)
    give_up = durable(rows.give_up)
    finish = durable(rows.finish)
    forget = durable(rows.forget)
