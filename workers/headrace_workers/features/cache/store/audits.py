"""Audits of what was served by likeness, and how the scopes stand. Each method is one transaction."""

from dataclasses import dataclass

from sqlalchemy import Connection

from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.core.sql.transactions import durable, reads
from headrace_workers.features.cache.store import audit_counts, audit_rows, label_work, standings
from headrace_workers.features.cache.store.audit_counts import OtherCounts, Seen, Tally, Window
from headrace_workers.features.cache.store.standings import ScopeStanding


@dataclass(frozen=True, slots=True)
class Counted:
    """All that a scope's next standing depends on: the one before, what was counted, and the new labels in that."""

    before: ScopeStanding
    tallies: tuple[Tally, ...]
    window: Window
    other_counts: OtherCounts
    seen: Seen


def _counted(connection: Connection, scope: str, tenant: str, window: int) -> Counted:
    """Return what a scope's audits say, over all time and in the newest window of so many."""
    seen = audit_counts.unjudged_of(connection, scope)  # first: labels that come meanwhile are counted again
    before = standings.of(connection, scope) or standings.unheard_of(scope, tenant, standings.next_number(connection))
    return Counted(
        before,
        tuple(audit_counts.tallies(connection, scope, before.since)),
        audit_counts.window(connection, scope, before.since, window),
        audit_counts.other_counts(connection, scope, before.since),
        seen,
    )


def _judge(connection: Connection, now: ScopeStanding, seen: Seen) -> None:
    """Write how a scope stands, and that these labels are in it."""
    standings.write(connection, now)
    audit_counts.judged(connection, seen)


class Audits(LedgerStore):
    """The audits of one ledger. Thread-safe."""

    # -- judging

    def give_up(self) -> int:
        """Call the audits unknown whose work has ended without an answer; return how many."""
        with reading(self._engine) as tx:
            lost = audit_rows.lost(tx)
        if lost:
            with writing(self._engine) as tx:
                audit_rows.give_up(tx, lost)
        return len(lost)

    unjudged = reads(audit_counts.unjudged)
    counted = reads(_counted)
    pairs = reads(audit_counts.pairs)
    judge = durable(_judge)
    limiting = reads(standings.limiting)

    unverified = reads(audit_rows.unverified)
    verified = durable(audit_rows.verified)
    texts = reads(audit_rows.texts)
    ask = durable(label_work.ask)

    # -- people

    of_job = reads(audit_rows.of_job)
    unknown = reads(audit_rows.unknown)
    label = durable(audit_rows.label)
    by_guard = reads(audit_counts.by_guard)
    reopen = durable(standings.reopen)
    serve = durable(standings.serve)
    standings = reads(standings.all_of)
