"""Audits of what was served by likeness, and how the scopes stand. Each method is one transaction."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.features.cache.store import audit_counts, audit_rows, standings
from headrace_workers.features.cache.store.audit_counts import Beside, OfGuard, Pair, Seen, Tally, Window
from headrace_workers.features.cache.store.audit_rows import Label
from headrace_workers.features.cache.store.standings import ScopeStanding


@dataclass(frozen=True, slots=True)
class Counted:
    """All that a scope's next standing depends on: the one before, what was counted, and the new labels in that."""

    before: ScopeStanding
    tallies: tuple[Tally, ...]
    window: Window
    beside: Beside
    seen: Seen


class Audits(LedgerStore):
    """The audits of one ledger. Thread-safe."""

    # -- judging

    def give_up(self) -> int:
        """Call those unknown whose work has ended without an answer; how many."""
        with reading(self._engine) as tx:
            lost = audit_rows.lost(tx)
        if lost:
            with writing(self._engine) as tx:
                audit_rows.give_up(tx, lost)
        return len(lost)

    def unjudged(self, limit: int) -> list[tuple[str, str]]:
        """Scopes with labels that no standing has taken into account, and whose they are."""
        with reading(self._engine) as tx:
            return audit_counts.unjudged(tx, limit)

    def counted(self, scope: str, tenant: str, window: int) -> Counted:
        """What a scope's audits say, over all time and in the newest window of so many."""
        with reading(self._engine) as tx:
            seen = audit_counts.unjudged_of(tx, scope)  # first: what comes meanwhile is counted again
            before = standings.of(tx, scope) or standings.unheard_of(scope, tenant, standings.next_number(tx))
            return Counted(
                before,
                tuple(audit_counts.tallies(tx, scope, before.since)),
                audit_counts.window(tx, scope, before.since, window),
                audit_counts.beside(tx, scope, before.since),
                seen,
            )

    def pairs(self, scope: str, since: int) -> list[Pair]:
        """The decided audits of a scope, for its curve."""
        with reading(self._engine) as tx:
            return audit_counts.pairs(tx, scope, since)

    def judge(self, now: ScopeStanding, seen: Seen) -> None:
        """Write how a scope stands, and that these labels are in it."""
        with writing(self._engine) as tx:
            standings.write(tx, now)
            audit_counts.judged(tx, seen)

    def limiting(self) -> list[Any]:
        """What a look-up must know of scopes: see `standings.limiting`."""
        with reading(self._engine) as tx:
            return standings.limiting(tx)

    # -- people

    def of_job(self, job_id: str, entry_id: int | None) -> Row[Any] | None:
        """The audit of what this job was served, or, without an entry, of what it was nearly served."""
        with reading(self._engine) as tx:
            return audit_rows.of_job(tx, job_id, entry_id)

    def unknown(self, tenant: str | None = None, scope: str | None = None, limit: int = 100) -> list[Row[Any]]:
        """Audits that a person should label, of what was served first."""
        with reading(self._engine) as tx:
            return audit_rows.unknown(tx, tenant, scope, limit)

    def label(self, audit_id: str, said: Label, by: str, *, kill: bool = True) -> Row[Any] | None:
        """A person's label; the audit as it was before, None where there is none: see `audit_rows.label`."""
        with writing(self._engine) as tx:
            return audit_rows.label(tx, audit_id, said, by, kill=kill)

    def standings(self, tenant: str | None = None, scope: str | None = None) -> list[ScopeStanding]:
        """How the scopes stand, those that are off first. `scope` is the beginning of one."""
        with reading(self._engine) as tx:
            return standings.all_of(tx, tenant, scope)

    def by_guard(self, tenant: str | None = None, limit: int = 100) -> list[OfGuard]:
        """What audits say of refusals, by the guard that alone refused; those first that refuse most."""
        with reading(self._engine) as tx:
            return audit_counts.by_guard(tx, tenant, limit)

    def reopen(self, scope: str) -> bool:
        """Turn a scope's semantic tier on again; whether it was off."""
        with writing(self._engine) as tx:
            return standings.reopen(tx, scope)
