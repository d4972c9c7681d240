"""The audits of what was served by likeness, counted, and how the scopes stand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, case, func, select, update

from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.features.cache.store import audit_rows, standings
from headrace_workers.features.cache.store.audit_rows import are, locked
from headrace_workers.features.cache.store.standings import ScopeStanding
from headrace_workers.features.cache.tables import AUDITS, HIT, IS_UNJUDGED, REFUSED, SERVES, SHADOW

_MANY: Final = 5_000


class Tally(NamedTuple):
    """Serves of one stratum that had the same chance to be audited, and what their audits said."""

    stratum: int
    share: float
    served: int
    clean: int
    wrong: int
    unknown: int


class Window(NamedTuple):
    """The newest of the windows that lie end to end: its number, from 1, and what was served since it began."""

    number: int
    tallies: tuple[Tally, ...]


class Labels(NamedTuple):
    """The numbers of audits by label."""

    clean: int = 0
    wrong: int = 0
    unknown: int = 0

    @property
    def decided(self) -> int:
        """Return how many have a verdict."""
        return self.clean + self.wrong


class OtherCounts(NamedTuple):
    """Counts outside the bound: look-ups that a guard refused, and the comparisons of two fresh answers to one hit."""

    refused: Labels = Labels()
    own: Labels = Labels()


class OfGuard(NamedTuple):
    """The refusals by this guard alone, or by `several`: about how many there were, and what audits say of them."""

    guard: str
    refused: float
    labels: Labels


def guard_counts(connection: Connection, tenant: str | None = None, limit: int = 100) -> list[OfGuard]:
    """Return what audits say of refusals, by the guard that alone refused; those first that refuse most."""
    about = func.sum(1 / AUDITS.c.share)
    kinds = [func.count(case((AUDITS.c.label == field, 1))).label(field) for field in Labels._fields]
    query = (
        select(AUDITS.c.guard, about.label("refused"), *kinds)
        .where(AUDITS.c.kind == REFUSED, AUDITS.c.guard.is_not(None), AUDITS.c.label.is_not(None))
        .group_by(AUDITS.c.guard)
        .order_by(about.desc(), AUDITS.c.guard)
        .limit(limit)
    )
    rows = connection.execute(query if tenant is None else query.where(AUDITS.c.tenant == tenant))
    return [OfGuard(row.guard, row.refused, Labels(row.clean, row.wrong, row.unknown)) for row in rows]


def unjudged_scopes(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Return scopes with labels that no standing has taken into account, and their tenants."""
    query = select(AUDITS.c.scope, AUDITS.c.tenant).where(IS_UNJUDGED).distinct().limit(limit)
    return [(row.scope, row.tenant) for row in connection.execute(query)]


class Seen(NamedTuple):
    """Labels that are in a standing: of these audits, and when the newest of them was given (ms)."""

    audit_ids: tuple[str, ...]
    newest: int


def unjudged_of(connection: Connection, scope: str) -> Seen:
    """Return a bounded number of audits of a scope with such labels."""
    query = select(AUDITS.c.id, AUDITS.c.labelled_at).where(IS_UNJUDGED, AUDITS.c.scope == scope).limit(_MANY)
    rows = connection.execute(query).all()
    return Seen(tuple(row.id for row in rows), max((row.labelled_at for row in rows), default=0))


def mark_judged(connection: Connection, seen: Seen) -> None:
    """Mark these labels as counted, except for labels that people have changed since."""
    same = AUDITS.c.labelled_at <= seen.newest
    ours = are(connection, locked(connection, are(connection, seen.audit_ids)))
    connection.execute(update(AUDITS).where(same, ours).values(judged=True))


def tallies(connection: Connection, scope: str, since: int) -> list[Tally]:
    """Return what a scope served since then (ms), or would have in shadow, by stratum and by the chance to be audited.
    In shadow everything is audited, so that there are as many serves as audits.
    """
    served = {
        (row.stratum, row.share): row.times
        for row in connection.execute(
            select(SERVES.c.stratum, SERVES.c.share, func.count().label("times"))
            .where(SERVES.c.scope == scope, SERVES.c.share > 0, SERVES.c.served_at >= since)
            .group_by(SERVES.c.stratum, SERVES.c.share)
        )
    }
    labels: dict[tuple[int, float], dict[str, int]] = {}
    for row in connection.execute(
        select(AUDITS.c.stratum, AUDITS.c.share, AUDITS.c.label, func.count().label("times"))
        .where(*_hits(scope, since))
        .group_by(AUDITS.c.stratum, AUDITS.c.share, AUDITS.c.label)
    ):
        labels.setdefault((row.stratum, row.share), {})[row.label] = row.times
    return [_tally(key, served.get(key, 0), labels.get(key, {})) for key in sorted(served.keys() | labels.keys())]


def _tally(key: tuple[int, float], served: int, labels: dict[str, int]) -> Tally:
    clean, wrong, unknown = (labels.get(label, 0) for label in ("clean", "wrong", "unknown"))
    # An audit's serve may have been written some µs before `since`.
    return Tally(*key, max(served, clean + wrong + unknown), clean, wrong, unknown)


def newest_window(connection: Connection, scope: str, since: int, size: int) -> Window:
    """Return the newest window of so many audits, in the order of their serves."""
    ours = _hits(scope, since)
    count = int(connection.execute(select(func.count()).select_from(AUDITS).where(*ours)).scalar_one())
    before = max(0, count - 1) // size
    begins = (
        select(AUDITS.c.served_at).where(*ours).order_by(AUDITS.c.served_at, AUDITS.c.id).offset(before * size).limit(1)
    )
    start = connection.execute(begins).scalar()
    return Window(before + 1, tuple(tallies(connection, scope, since if start is None else start)))


def other_counts(connection: Connection, scope: str, since: int) -> OtherCounts:
    """Return what audits of a scope say that is no part of its bound."""
    refused = {
        row.label: row.times
        for row in connection.execute(
            select(AUDITS.c.label, func.count().label("times"))
            .where(AUDITS.c.scope == scope, AUDITS.c.served_at >= since, AUDITS.c.kind == REFUSED)
            .group_by(AUDITS.c.label)
        )
    }
    own = {
        row.own: row.times
        for row in connection.execute(
            select(AUDITS.c.own, func.count().label("times"))
            .where(*_hits(scope, since), AUDITS.c.own.is_not(None))
            .group_by(AUDITS.c.own)
        )
    }
    return OtherCounts(_labels(refused), _labels(own))


def _labels(counts: Mapping[str, int]) -> Labels:
    return Labels(*(counts.get(field, 0) for field in Labels._fields))


def _hits(scope: str, since: int) -> tuple[ColumnElement[bool], ...]:
    return (AUDITS.c.scope == scope, AUDITS.c.served_at >= since, AUDITS.c.kind.in_((HIT, SHADOW)))


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
    seen = unjudged_of(connection, scope)  # first: labels that come meanwhile are counted again
    before = standings.of(connection, scope) or standings.unheard_of(scope, tenant)
    return Counted(
        before,
        tuple(tallies(connection, scope, before.since)),
        newest_window(connection, scope, before.since, window),
        other_counts(connection, scope, before.since),
        seen,
    )


def _judge(connection: Connection, now: ScopeStanding, seen: Seen) -> None:
    """Write how a scope stands, and that these labels are in it."""
    standings.write(connection, now)
    mark_judged(connection, seen)


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

    unjudged = reads(unjudged_scopes)
    counted = reads(_counted)
    judge = durable(_judge)
    limiting = reads(standings.limiting)

    unverified = reads(audit_rows.unverified)
    verified = durable(audit_rows.verified)
    texts = reads(audit_rows.texts)
    ask = durable(audit_rows.ask_model)

    # -- people

    of_job = reads(audit_rows.of_job)
    unknown = reads(audit_rows.unknown)
    label = durable(audit_rows.label_audit)
    by_guard = reads(guard_counts)
    reopen = durable(standings.reopen)
    serve = durable(standings.serve)
    standings = reads(standings.all_of)
