"""The answers that may be given again, as the ledger keeps them. Each method is one transaction."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection

from headrace_workers.core.ledger import change_feed
from headrace_workers.core.sql.database import reading
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.core.sql.transactions import durable, reads, single_read
from headrace_workers.features.cache.store import (
    entries,
    entry_changes,
    eviction,
    failed,
    purge,
    recall_counts,
    recalled,
    uses,
)
from headrace_workers.features.cache.tables import ENTRY
from headrace_workers.features.knowledge.store.documents import Version


def _withdraw(connection: Connection, entry_id: int) -> bool:
    """Let the answer of a pending entry be made by nobody; return True if it was pending."""
    return entries.Withdraw(entry_id).write(connection)


def _outdate(connection: Connection, wanted: Mapping[int, Collection[Version]], reason: str) -> set[int]:
    """Kill the answers that do not rest on all documents named with them; return their ids."""
    used = uses.of(connection, list(wanted))
    old = {entry_id for entry_id, documents in wanted.items() if set(documents) - used.get(entry_id, set())}
    entries.kill(connection, sorted(old), reason)
    return old


class Answers(LedgerStore):
    """The answers of one ledger. Thread-safe. Unavailable when the database does not answer."""

    exact = single_read(entries.exact)
    alike_but_for_form = single_read(entries.alike_but_for_form)
    living = single_read(entries.living)
    lead = durable(entries.lead)
    withdraw = durable(_withdraw)
    evict = durable(eviction.evict)
    in_the_making = reads(entries.in_the_making)
    alike_in_the_making = reads(entries.alike_in_the_making)
    failed = reads(failed.failed)

    # -- what workers keep in memory

    snapshot = reads(entries.snapshot)
    changed = reads(entry_changes.follow)
    lately = reads(entry_changes.lately)

    def mark(self, up_to: change_feed.Position) -> change_feed.Mark | None:
        """Return the last change of an answer up to a position; None if there is none."""
        with reading(self._engine) as tx:
            return change_feed.mark(tx, up_to, ENTRY)

    def stands(self, mark: change_feed.Mark) -> bool:
        """Return True if a follower may go on from this change: see `changes.stands`."""
        with reading(self._engine) as tx:
            return change_feed.stands(tx, mark, ENTRY)

    # -- answers that turn out to be wrong

    of_job = reads(recalled.answers_of)
    recall = durable(recalled.recall)
    outdate = durable(_outdate)
    running = reads(recalled.running)
    served = reads(recalled.served)
    given = reads(recalled.given)
    to_ask_again = reads(recalled.to_ask_again)

    # -- for people

    count = reads(purge.count)
    purge = durable(purge.purge)
    counts = reads(recall_counts.counts)
    scopes = reads(recall_counts.scopes)
