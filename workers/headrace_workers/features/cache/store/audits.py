"""The audits of what was served by likeness, counted, and the state of each scope that follows from them: whether its
bound is shown, or broken, and whether the semantic tier is off.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, case, func, or_, select, update

from headrace_workers.core.fields import copied
from headrace_workers.core.ledger.incidents import Incident
from headrace_workers.core.sql.database import insert, now_ms, reading, writing
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.features.cache.store import audit_rows
from headrace_workers.features.cache.store.audit_rows import Audited, are, locked
from headrace_workers.features.cache.tables import AUDITS, HIT, IS_UNJUDGED, REFUSED, SERVES, SHADOW, STANDINGS

State = Literal["not yet shown", "shown", "off"]

NOT_YET: Final[State] = "not yet shown"
SHOWN: Final[State] = "shown"
OFF: Final[State] = "off"
_MANY: Final = 5_000
_SHOWN_OF_SCOPE: Final = 8  # characters


class Labels(NamedTuple):
    """The numbers of audits by label."""

    clean: int = 0
    wrong: int = 0
    unknown: int = 0

    @property
    def decided(self) -> int:
        """Return how many have a verdict."""
        return self.clean + self.wrong


class Tally(NamedTuple):
    """Serves of one stratum that had the same chance to be audited, and what their audits said."""

    stratum: int
    share: float
    served: int
    labels: Labels


class Window(NamedTuple):
    """The newest of the windows that lie end to end: its number, from 1, and what was served since it began."""

    number: int
    tallies: tuple[Tally, ...]


class OtherCounts(NamedTuple):
    """Counts outside the bound: look-ups that a guard refused, and the comparisons of two fresh answers to one hit."""

    refused: Labels = Labels()
    own: Labels = Labels()


class OfGuard(NamedTuple):
    """The refusals by this guard alone, or by `several`: about how many there were, and what audits say of them."""

    guard: str
    refused: float
    labels: Labels


class Seen(NamedTuple):
    """Labels that are in a standing: of these audits, and when the newest of them was given (ms)."""

    audit_ids: tuple[str, ...]
    newest: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeStanding:
    """One scope. `figures` are the numbers of its bound, by name.

    Serves count from `since`, and the state holds since `changed_at` (both ms since 1970). `serves_by` is the person
    who let it serve before its bound was shown.
    """

    scope: str
    tenant: str
    state: State = NOT_YET
    sentence: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    since: int = 0
    changed_at: int = 0
    serves_by: str | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """All that a scope's next standing depends on: the one before, what was counted, and the new labels in that."""

    before: ScopeStanding
    tallies: tuple[Tally, ...]
    window: Window
    other_counts: OtherCounts
    seen: Seen


# -- counts


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
    labels = _by_label(connection, AUDITS.c.label, _hits(scope, since), AUDITS.c.stratum, AUDITS.c.share)
    # An audit's serve may have been written some µs before `since`.
    return [
        Tally(stratum, share, max(served.get((stratum, share), 0), sum(said)), said)
        for stratum, share in sorted(served.keys() | labels.keys())
        for said in [labels.get((stratum, share), Labels())]
    ]


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
    refused = (AUDITS.c.scope == scope, AUDITS.c.served_at >= since, AUDITS.c.kind == REFUSED)
    asked_twice = (*_hits(scope, since), AUDITS.c.own.is_not(None))
    return OtherCounts(
        _by_label(connection, AUDITS.c.label, refused).get((), Labels()),
        _by_label(connection, AUDITS.c.own, asked_twice).get((), Labels()),
    )


def _by_label(
    connection: Connection, label: ColumnElement[Any], which: Sequence[ColumnElement[bool]], *by: ColumnElement[Any]
) -> dict[tuple[Any, ...], Labels]:
    """Return the numbers of audits by a column with labels, by these other columns."""
    query = select(*by, label.label("said"), func.count().label("times")).where(*which).group_by(*by, label)
    found: dict[tuple[Any, ...], dict[str, int]] = {}
    for row in connection.execute(query):
        found.setdefault(tuple(row[: len(by)]), {})[row.said] = row.times
    return {key: Labels(*(times.get(name, 0) for name in Labels._fields)) for key, times in found.items()}


def _hits(scope: str, since: int) -> tuple[ColumnElement[bool], ...]:
    return (AUDITS.c.scope == scope, AUDITS.c.served_at >= since, AUDITS.c.kind.in_((HIT, SHADOW)))


# -- judging


def unjudged_scopes(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Return scopes with labels that no standing has taken into account, and their tenants."""
    query = select(AUDITS.c.scope, AUDITS.c.tenant).where(IS_UNJUDGED).distinct().limit(limit)
    return [(row.scope, row.tenant) for row in connection.execute(query)]


def _counted(connection: Connection, scope: str, tenant: str, window: int) -> Counted:
    """Return what a scope's audits say, over all time and in the newest window of so many."""
    # First the new labels, a bounded number: labels that come meanwhile are counted again.
    new = select(AUDITS.c.id, AUDITS.c.labelled_at).where(IS_UNJUDGED, AUDITS.c.scope == scope).limit(_MANY)
    rows = connection.execute(new).all()
    seen = Seen(tuple(row.id for row in rows), max((row.labelled_at for row in rows), default=0))
    row = connection.execute(select(STANDINGS).where(STANDINGS.c.scope == scope)).first()
    before = ScopeStanding(scope=scope, tenant=tenant) if row is None else _standing(row)
    return Counted(
        before,
        tuple(tallies(connection, scope, before.since)),
        newest_window(connection, scope, before.since, window),
        other_counts(connection, scope, before.since),
        seen,
    )


def _judge(connection: Connection, now: ScopeStanding, seen: Seen) -> None:
    """Write how a scope stands, and that these labels are in it, except for labels that people have changed since. If
    it was opened again since it was counted, its standing stays. A scope that is off stays off.
    """
    values = {
        "tenant": now.tenant, "state": now.state, "sentence": now.sentence[:2_000], "figures": json.dumps(now.figures),
    }  # fmt: skip
    new = insert(connection, STANDINGS).values(scope=now.scope, since=now.since, changed_at=now_ms(), **values)
    stays = STANDINGS.c.state == OFF
    latched = {
        "state": case((stays, STANDINGS.c.state), else_=now.state),
        "sentence": case((stays, STANDINGS.c.sentence), else_=values["sentence"]),
        "changed_at": case((or_(stays, STANDINGS.c.state == now.state), STANDINGS.c.changed_at), else_=now_ms()),
    }
    connection.execute(
        new.on_conflict_do_update(index_elements=["scope"], set_=values | latched, where=STANDINGS.c.since == now.since)
    )
    ours = are(connection, locked(connection, are(connection, seen.audit_ids)))
    connection.execute(update(AUDITS).where(AUDITS.c.labelled_at <= seen.newest, ours).values(judged=True))


def _verified(connection: Connection, label: Audited) -> None:
    """Write a verifier's label."""
    label.write(connection)


# -- standings


def standings_of(connection: Connection, tenant: str | None = None, scope: str | None = None) -> list[ScopeStanding]:
    """Return all scopes with a state, scopes that are off first. `scope` is the beginning of a scope."""
    query = select(STANDINGS).order_by(case((STANDINGS.c.state == OFF, 0), else_=1), STANDINGS.c.scope)
    if tenant is not None:
        query = query.where(STANDINGS.c.tenant == tenant)
    if scope is not None:
        query = query.where(STANDINGS.c.scope.startswith(scope, autoescape=True))
    return [_standing(row) for row in connection.execute(query)]


def limiting(connection: Connection) -> list[Any]:
    """Return scope, state, sentence and who let it serve, of all scopes; look-ups need them."""
    columns = (STANDINGS.c.scope, STANDINGS.c.state, STANDINGS.c.sentence, STANDINGS.c.serves_by)
    return list(connection.execute(select(*columns)))


def reopen(connection: Connection, scope: str) -> bool:
    """Turn a scope's semantic tier on again, and count only from now on; return True if it was off."""
    values = {"state": NOT_YET, "sentence": "Not yet shown: it was turned on again.", "figures": "{}",
              "since": now_ms(), "changed_at": now_ms()}  # fmt: skip
    statement = update(STANDINGS).where(STANDINGS.c.scope == scope, STANDINGS.c.state == OFF).values(**values)
    return connection.execute(statement).rowcount > 0


def serve(connection: Connection, scope: str, by: str | None) -> bool:
    """Let a scope serve by likeness before its bound is shown, or no more (`by` is None); return True if that changed
    anything.
    """
    let = STANDINGS.c.serves_by.is_(None) if by is not None else STANDINGS.c.serves_by.is_not(None)
    statement = update(STANDINGS).where(STANDINGS.c.scope == scope, let).values(serves_by=by and by[:128])
    return connection.execute(statement).rowcount > 0


def incidents(connection: Connection) -> Sequence[Incident]:
    """Return what `headrace status` says of scopes that are off."""
    query = select(STANDINGS).where(STANDINGS.c.state == OFF).order_by(STANDINGS.c.changed_at, STANDINGS.c.scope)
    return [
        Incident(
            "the cache",
            f"scope {row.scope[:_SHOWN_OF_SCOPE]} of the tenant {row.tenant}",
            f"{row.sentence} `headrace cache serve {row.scope[:_SHOWN_OF_SCOPE]}` turns it on again",
            row.changed_at,
        )
        for row in connection.execute(query)
    ]


def _standing(row: Any) -> ScopeStanding:
    return copied(ScopeStanding, row, figures=json.loads(row.figures))


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
    limiting = reads(limiting)

    unverified = reads(audit_rows.unverified)
    verified = durable(_verified)
    texts = reads(audit_rows.texts)
    ask = durable(audit_rows.ask_model)

    # -- people

    of_job = reads(audit_rows.of_job)
    unknown = reads(audit_rows.unknown)
    label = durable(audit_rows.label_audit)
    by_guard = reads(guard_counts)
    reopen = durable(reopen)
    serve = durable(serve)
    standings = reads(standings_of)
