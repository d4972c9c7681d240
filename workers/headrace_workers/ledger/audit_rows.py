"""Audits: a share of what was served by likeness is answered afresh, so that it is known how often that is wrong.

An audit is a row of `audits` and a unit of work (see units.py), made with the serve in one transaction. Nobody hears of
its end: where it dies, its row says so, and there is no dead letter. Lock order: audits behind jobs, steps and
entries.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import Connection, Row, func, or_, select, update

from headrace_workers.ledger import entries
from headrace_workers.ledger.audit_tables import AUDITS, AWAITS_FRESH, IS_UNJUDGED, IS_UNKNOWN
from headrace_workers.ledger.database import among, clock, insert, now_ms
from headrace_workers.ledger.hand_out import hand_out
from headrace_workers.ledger.recall_tables import SERVES
from headrace_workers.ledger.steps import NewStep
from headrace_workers.ledger.tables import JOBS, SILENT

Label = Literal["clean", "wrong", "unknown"]

MOST_OPEN: Final = 1_000  # audits of a scope that wait for their fresh answer: what comes meanwhile is not audited
BY_ITSELF: Final = "headrace"  # who labelled, where no person did
_AT_ONCE: Final = 500
_MANY: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAudit:
    """What was served, and the work of answering it afresh, which is given up after `patience_ms`.

    `share` is the chance that a serve of this stratum had to be audited.
    """

    id: str
    job_id: str
    entry_id: int
    tenant: str
    scope: str
    similarity: float
    stratum: int
    share: float
    question: str
    served: str
    job: bytes  # JSON of the GenerationJob that was served
    step: NewStep
    patience_ms: int

    def write(self, connection: Connection) -> None:
        """Write it; nothing where it is there, or where too many of its scope wait."""
        waiting = select(AUDITS.c.id).where(AWAITS_FRESH, AUDITS.c.scope == self.scope).limit(MOST_OPEN)
        if len(connection.execute(waiting).all()) == MOST_OPEN:
            return
        made = insert(connection, AUDITS).values(
            id=self.id, job_id=self.job_id, entry_id=self.entry_id, tenant=self.tenant, scope=self.scope,
            similarity=self.similarity, stratum=self.stratum, share=self.share, served_at=now_ms(),
            question=self.question, served=self.served,
        )  # fmt: skip
        if connection.execute(made.on_conflict_do_nothing().returning(AUDITS.c.id)).first() is None:
            return
        now = clock(connection)
        connection.execute(
            insert(connection, JOBS).values(
                id=self.id, tenant=self.tenant, kind=SILENT, state="active", payload=self.job, accepted_at=now,
                subject=self.job_id, endpoint=f"scope {self.scope[:8]}",
            )
        )  # fmt: skip
        hand_out(connection, [self.step._replace(job_id=self.id, deadline=now + self.patience_ms)], None, now)


@dataclass(frozen=True, slots=True)
class Audited:
    """What an audit came to. An answer that it found wrong is given to nobody any more."""

    audit_id: str
    label: Label
    reason: str
    fresh: str | None = None

    def write(self, connection: Connection) -> None:
        """Write it; nothing where the audit has a label already."""
        waits = (AUDITS.c.id == self.audit_id, AUDITS.c.label.is_(None))
        if self.label == "wrong":
            found = list(connection.execute(select(AUDITS.c.entry_id).where(*waits)).scalars())
            entries.kill(connection, found, f"an audit found it wrong for another question: {self.reason}")
        values = {"fresh": self.fresh, **_labelled(self.label, BY_ITSELF, self.reason)}
        connection.execute(update(AUDITS).where(*waits).values(values))


def _labelled(label: Label, by: str, reason: str) -> dict[str, Any]:
    """The columns of a label. Texts of what is clean are forgotten: people may want to see the others."""
    forgotten = {"question": None, "served": None, "fresh": None} if label == "clean" else {}
    return {"label": label, "labelled_by": by[:128], "labelled_at": now_ms(), "reason": reason[:2_000],
            "judged": False, **forgotten}  # fmt: skip


def label(connection: Connection, audit_id: str, said: Label, by: str, *, kill: bool = True) -> Row[Any] | None:
    """A person's label, whatever the audit had before: its row as it was; None where there is no such audit. With
    `kill` an answer that is wrong is given to nobody any more.

    One that waits for its fresh answer gets no label (in its row it is None).
    """
    before = connection.execute(select(AUDITS).where(AUDITS.c.id == audit_id)).first()
    if before is not None and before.label is not None:
        if kill and said == "wrong":
            entries.kill(connection, [before.entry_id], f"wrong: {by} said so of an audit")
        values = _labelled(said, by, f"a person said {said}")
        connection.execute(update(AUDITS).where(AUDITS.c.id == audit_id).values(values))
    return before


def unknown(connection: Connection, tenant: str | None, scope: str | None, limit: int) -> list[Row[Any]]:
    """Audits that a person should label, the oldest first; `scope` is the beginning of one."""
    conditions: list[Any] = [IS_UNKNOWN]
    if tenant is not None:
        conditions.append(AUDITS.c.tenant == tenant)
    if scope is not None:
        conditions.append(AUDITS.c.scope.startswith(scope, autoescape=True))
    query = select(AUDITS).where(*conditions).order_by(AUDITS.c.served_at, AUDITS.c.id).limit(limit)
    return list(connection.execute(query))


def lost(connection: Connection) -> list[str]:
    """Audits whose work has ended without an answer: it died, or was forgotten. A bounded number."""
    ended = or_(JOBS.c.id.is_(None), JOBS.c.state != "active")
    query = select(AUDITS.c.id).outerjoin(JOBS, JOBS.c.id == AUDITS.c.id).where(AWAITS_FRESH, ended)
    return list(connection.execute(query.limit(_AT_ONCE)).scalars())


def give_up(connection: Connection, audit_ids: Sequence[str]) -> None:
    """Call these unknown, but for those that have a label by now."""
    values = _labelled("unknown", BY_ITSELF, "given up: it was not answered afresh in time, or trying failed")
    connection.execute(update(AUDITS).where(AWAITS_FRESH, among(connection, AUDITS.c.id, audit_ids)).values(values))


def forget(connection: Connection, entry_ids: Collection[int]) -> None:
    """Forget what was asked and answered in audits of these entries."""
    if entry_ids:
        connection.execute(
            update(AUDITS)
            .where(among(connection, AUDITS.c.entry_id, sorted(entry_ids)), AUDITS.c.question.is_not(None))
            .values(question=None, served=None, fresh=None)
        )


# -- what they say of a scope


class Tally(NamedTuple):
    """Serves of one stratum that had the same chance to be audited, and what their audits said."""

    stratum: int
    share: float
    served: int
    clean: int
    wrong: int
    unknown: int


class Pair(NamedTuple):
    """A serve whose audit was decided."""

    similarity: float
    correct: bool


class Window(NamedTuple):
    """The newest of the windows that lie end to end: its number, from 1, and what was served since it began."""

    number: int
    tallies: tuple[Tally, ...]


def unjudged(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Scopes with labels that no standing has taken into account, and whose they are."""
    query = select(AUDITS.c.scope, AUDITS.c.tenant).where(IS_UNJUDGED).distinct().limit(limit)
    return [(row.scope, row.tenant) for row in connection.execute(query)]


class Seen(NamedTuple):
    """Labels that are in a standing: of these audits, and when the newest of them was given (ms)."""

    audit_ids: tuple[str, ...]
    newest: int


def unjudged_of(connection: Connection, scope: str) -> Seen:
    """A bounded number of audits of a scope with such labels."""
    query = select(AUDITS.c.id, AUDITS.c.labelled_at).where(IS_UNJUDGED, AUDITS.c.scope == scope).limit(_MANY)
    rows = connection.execute(query).all()
    return Seen(tuple(row.id for row in rows), max((row.labelled_at for row in rows), default=0))


def judged(connection: Connection, seen: Seen) -> None:
    """These labels are in a standing now, but for those that people have changed since."""
    same = AUDITS.c.labelled_at <= seen.newest
    connection.execute(update(AUDITS).where(same, among(connection, AUDITS.c.id, seen.audit_ids)).values(judged=True))


def tallies(connection: Connection, scope: str, since: int) -> list[Tally]:
    """What was served of a scope since then (ms), by stratum and by the chance to be audited."""
    served = {
        (row.stratum, row.share): row.times
        for row in connection.execute(
            select(SERVES.c.stratum, SERVES.c.share, func.count().label("times"))
            .where(SERVES.c.scope == scope, SERVES.c.share > 0, SERVES.c.served_at >= since)
            .group_by(SERVES.c.stratum, SERVES.c.share)
        )
    }
    said: dict[tuple[int, float], dict[str, int]] = {}
    for row in connection.execute(
        select(AUDITS.c.stratum, AUDITS.c.share, AUDITS.c.label, func.count().label("times"))
        .where(AUDITS.c.scope == scope, AUDITS.c.served_at >= since)
        .group_by(AUDITS.c.stratum, AUDITS.c.share, AUDITS.c.label)
    ):
        said.setdefault((row.stratum, row.share), {})[row.label] = row.times
    return [_tally(key, served.get(key, 0), said.get(key, {})) for key in sorted(served.keys() | said.keys())]


def _tally(key: tuple[int, float], served: int, said: dict[str, int]) -> Tally:
    clean, wrong, unknown = (said.get(each, 0) for each in ("clean", "wrong", "unknown"))
    # An audit's serve may have been written some µs before `since`.
    return Tally(*key, max(served, clean + wrong + unknown), clean, wrong, unknown)


def window(connection: Connection, scope: str, since: int, size: int) -> Window:
    """The newest window of so many audits, in the order of their serves."""
    ours = (AUDITS.c.scope == scope, AUDITS.c.served_at >= since)
    count = int(connection.execute(select(func.count()).select_from(AUDITS).where(*ours)).scalar_one())
    before = max(0, count - 1) // size
    begins = (
        select(AUDITS.c.served_at).where(*ours).order_by(AUDITS.c.served_at, AUDITS.c.id).offset(before * size).limit(1)
    )
    start = connection.execute(begins).scalar()
    return Window(before + 1, tuple(tallies(connection, scope, since if start is None else start)))


def pairs(connection: Connection, scope: str, since: int) -> list[Pair]:
    """The decided audits of a scope, for its curve."""
    query = select(AUDITS.c.similarity, AUDITS.c.label).where(
        AUDITS.c.scope == scope, AUDITS.c.served_at >= since, AUDITS.c.label.in_(("clean", "wrong"))
    )
    return [Pair(row.similarity, row.label == "clean") for row in connection.execute(query)]
