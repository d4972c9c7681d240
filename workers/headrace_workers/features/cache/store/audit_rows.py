"""Audits: a share of the questions served by likeness is answered afresh, to learn how often the served answer is
wrong.

An audit of a hit is a row of `audits` and a unit of work (see event_units.py), made with the serve in one transaction.
Nobody hears of its end: where it dies, its row says so, and there is no dead letter. A near miss has only a row, and is
compared with the answer that its job is given instead. Lock order: audits after jobs, steps and entries.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Row, case, delete, or_, select, update

from headrace_workers.core.fields import columns
from headrace_workers.core.identity import audit_id, explored_id
from headrace_workers.core.ledger.charges import NextCall
from headrace_workers.core.ledger.claims import assign
from headrace_workers.core.ledger.model_calls import WantedWork, may_work
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.sql.database import among, clock, insert, now_ms
from headrace_workers.core.tables import JOBS, SILENT
from headrace_workers.features.cache.store import entries
from headrace_workers.features.cache.tables import AUDITS, AWAITS_FRESH, ENTRIES, HIT, IS_UNKNOWN, SHADOW

Label = Literal["clean", "wrong", "unknown"]
Kind = Literal["hit", "refused", "shadow"]

MOST_OPEN: Final = 1_000  # audits of a scope that wait for their fresh answer: further hits are not audited meanwhile
BY_ITSELF: Final = "headrace"  # who labelled, where no person did
PATIENCE_MS: Final = 3 * 86_400_000  # for which the model may be away
_AT_ONCE: Final = 500
_FORGOTTEN: Final = {"question": None, "served": None, "fresh": None, "again": None}
_IN_TURN: Final = (case((AUDITS.c.kind.in_((HIT, SHADOW)), 0), else_=1), AUDITS.c.served_at, AUDITS.c.id)
_THERE: Final = (IS_UNKNOWN, AUDITS.c.served.is_not(None), AUDITS.c.fresh.is_not(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditWork:
    """The work of answering afresh what was served, or of labelling an audit: its step, and the call of a model that it
    needs. `subject` is the job that was served, or the audit.
    """

    tenant: str
    subject: str
    endpoint: str  # as `status` names it
    step: NewStep
    call: NextCall
    job: bytes = b""  # JSON of the GenerationJob that was served


def _make(connection: Connection, works: Sequence[AuditWork]) -> dict[str, str]:
    """Make these units, which reserve for their calls; return why a budget does not hold some, by the units' ids."""
    refused = may_work(
        connection, [WantedWork(work.step.job_id, work.tenant, work.step.tokens, work.call) for work in works]
    )
    now, made = clock(connection), [work for work in works if work.step.job_id not in refused]
    for work in made:
        row = insert(connection, JOBS).values(
            id=work.step.job_id, tenant=work.tenant, kind=SILENT, state="active", payload=work.job, accepted_at=now,
            subject=work.subject, endpoint=work.endpoint,
        )  # fmt: skip
        connection.execute(row.on_conflict_do_nothing())
    assign(connection, [work.step._replace(deadline=now + PATIENCE_MS) for work in made], None, now)
    return refused


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAudit:
    """A served answer with the work of answering it afresh, or a near miss, which needs no work.

    `share` is the chance that such a look-up had to be audited.
    """

    id: str
    kind: Kind = "hit"
    guard: str | None = None  # of what guards refused: the one that alone did, or `several`
    job_id: str
    entry_id: int
    tenant: str
    scope: str
    similarity: float
    stratum: int
    share: float
    question: str
    served: str
    afresh: AuditWork | None = None

    def write(self, connection: Connection) -> None:
        """Write it; nothing where it is there, or where too many of its scope wait."""
        waiting = select(AUDITS.c.id).where(AWAITS_FRESH, AUDITS.c.scope == self.scope).limit(MOST_OPEN)
        if len(connection.execute(waiting).all()) == MOST_OPEN:
            return
        made = insert(connection, AUDITS).values(columns(AUDITS, self, served_at=now_ms()))
        new = connection.execute(made.on_conflict_do_nothing().returning(AUDITS.c.id)).first()
        if new is not None and self.afresh is not None:
            for reason in _make(connection, [self.afresh]).values():
                _label(connection, [AUDITS.c.id == self.id], "unknown", BY_ITSELF, f"given up: {reason}")


@dataclass(frozen=True, slots=True)
class Audited:
    """The label of an audit by a comparison, or by a verifier. An answer that was served, and is found wrong, is given
    to nobody any more. `again` is a second fresh answer, and `own` says how it compares with the first.
    """

    audit_id: str
    label: Label
    reason: str
    fresh: str | None = None
    again: str | None = None
    own: Label | None = None
    by: str = BY_ITSELF

    def write(self, connection: Connection) -> None:
        """Write it; nothing where the audit has a label already. A verifier's replaces an unknown one of no person."""
        if self.by == BY_ITSELF:
            which: list[Any] = [AUDITS.c.id == self.audit_id, AUDITS.c.label.is_(None)]
            death = f"an audit found it wrong for another question: {self.reason}"
            texts: dict[str, Any] = {"fresh": self.fresh, "again": self.again, "own": self.own}
        else:
            which = [AUDITS.c.id == self.audit_id, IS_UNKNOWN, AUDITS.c.labelled_by.in_((BY_ITSELF, self.by))]
            death, texts = f"wrong: {self.by} said so of an audit", {}
        _label(connection, which, self.label, self.by, self.reason, death=death, texts=texts)


def _label(
    connection: Connection,
    which: Sequence[Any],
    label: Label,
    by: str,
    reason: str,
    *,
    death: str | None = None,
    texts: dict[str, Any] | None = None,
) -> None:
    """Label the audits of these conditions. Answers that were served, and are wrong, end with the reason `death`. Texts
    of what is clean are forgotten: people may want to see the others.
    """
    if label == "wrong" and death is not None:
        served = select(AUDITS.c.entry_id).where(*which, AUDITS.c.kind == HIT)
        entries.kill(connection, list(connection.execute(served).scalars()), death)
    values = {
        "label": label, "labelled_by": by[:128], "labelled_at": now_ms(), "reason": reason[:2_000], "judged": False,
        **(texts or {}), **(_FORGOTTEN if label == "clean" else {}),
    }  # fmt: skip
    connection.execute(update(AUDITS).where(*which).values(values))


def label_audit(
    connection: Connection, audit_id: str, verdict: Label, by: str, *, kill: bool = True
) -> Row[Any] | None:
    """Write a person's label, whatever the audit had; return its row as it was, None if there is no such audit. With
    `kill` an answer that was served, and is wrong, is given to nobody any more: a near miss may be right for the
    question that it was made for.

    One that waits for its fresh answer gets no label (in its row it is None).
    """
    which = AUDITS.c.id == audit_id
    before = connection.execute(select(AUDITS).where(which)).first()
    if before is not None and before.label is not None:
        death = f"wrong: {by} said so of an audit" if kill else None
        _label(connection, [which], verdict, by, f"a person said {verdict}", death=death)
    return before


def unverified(connection: Connection, limit: int) -> list[Row[Any]]:
    """Return audits without a verdict of which both answers are there, and that no person or verifier has read."""
    query = select(AUDITS).where(*_THERE, AUDITS.c.labelled_by == BY_ITSELF).order_by(*_IN_TURN)
    return list(connection.execute(query.limit(limit)))


def texts(connection: Connection, audit_ids: Collection[str]) -> dict[str, Row[Any]]:
    """Return the audits, of these, whose texts are there and that nobody has labelled, by their ids."""
    rows = connection.execute(select(AUDITS).where(*_THERE, are(connection, audit_ids)))
    return {row.id: row for row in rows}


def unknown(
    connection: Connection, tenant: str | None = None, scope: str | None = None, limit: int = 100
) -> list[Row[Any]]:
    """Return audits that a person should label: first of what was served, or would be, and of these the oldest.

    `scope` is the beginning of a scope.
    """
    query = select(AUDITS).where(IS_UNKNOWN).order_by(*_IN_TURN).limit(limit)
    if tenant is not None:
        query = query.where(AUDITS.c.tenant == tenant)
    if scope is not None:
        query = query.where(AUDITS.c.scope.startswith(scope, autoescape=True))
    return list(connection.execute(query))


def of_job(connection: Connection, job_id: str, entry_id: int | None) -> Row[Any] | None:
    """Return the audit of what this job was served, or, without an entry, of what it was nearly served, if any."""
    name = explored_id(job_id) if entry_id is None else audit_id(job_id, entry_id)
    return connection.execute(select(AUDITS).where(AUDITS.c.id == name)).first()


def lost(connection: Connection) -> list[str]:
    """Return a bounded number of audits whose work has ended without an answer: it died, or was forgotten."""
    work = case((AUDITS.c.kind == HIT, AUDITS.c.id), else_=AUDITS.c.job_id)
    ended = or_(JOBS.c.id.is_(None), JOBS.c.state != "active")
    query = select(AUDITS.c.id).outerjoin(JOBS, JOBS.c.id == work).where(AWAITS_FRESH, ended)
    return list(connection.execute(query.limit(_AT_ONCE)).scalars())


def give_up(connection: Connection, audit_ids: Sequence[str]) -> None:
    """Mark these audits unknown, except for audits that have a label by now. Rows of near misses are deleted."""
    waiting: list[Any] = [AWAITS_FRESH, are(connection, locked(connection, are(connection, audit_ids)))]
    connection.execute(delete(AUDITS).where(*waiting, AUDITS.c.kind != HIT))
    reason = "given up: it was not answered afresh in time, or trying failed"
    _label(connection, waiting, "unknown", BY_ITSELF, reason)


def ask_model(connection: Connection, works: Sequence[AuditWork], by: str) -> None:
    """Make these units of labelling. An audit whose call a budget does not hold stays unknown, and so do all others
    until they are labelled: nobody asks about them again.
    """
    there = set(locked(connection, are(connection, [work.subject for work in works])))
    works = [work for work in works if work.subject in there]
    refused = _make(connection, works)
    for work in works:
        why = refused.get(work.step.job_id)
        reason = "the verifier was asked" if why is None else f"given up: {why}"
        _label(connection, [AUDITS.c.id == work.subject], "unknown", by, reason)


def are(connection: Connection, audit_ids: Collection[str]) -> ColumnElement[bool]:
    """Return the condition that an audit has one of these ids."""
    return among(connection, AUDITS.c.id, sorted(audit_ids))


def locked(connection: Connection, which: ColumnElement[bool]) -> list[str]:
    """Lock these audits, in the order in which every writer of several locks them; return their ids."""
    query = select(AUDITS.c.id).where(which).order_by(AUDITS.c.id)
    return list(connection.execute(query.with_for_update()).scalars())


def served_in(connection: Connection, audit_ids: Collection[str]) -> set[int]:
    """Return the entries that were served where these audits look."""
    if not audit_ids:
        return set()
    query = select(AUDITS.c.entry_id).where(are(connection, audit_ids), AUDITS.c.kind == HIT)
    return set(connection.execute(query).scalars())


def forget(connection: Connection, entry_ids: Collection[int]) -> None:
    """Forget what was asked and answered in audits of these entries, and where a job got one of them instead."""
    if not entry_ids:
        return
    made = connection.execute(select(ENTRIES.c.job_id).where(among(connection, ENTRIES.c.id, sorted(entry_ids))))
    instead = are(connection, [explored_id(job_id) for job_id in made.scalars()])
    theirs = or_(among(connection, AUDITS.c.entry_id, sorted(entry_ids)), instead)
    audit_ids = locked(connection, theirs & AUDITS.c.question.is_not(None))
    connection.execute(update(AUDITS).where(are(connection, audit_ids)).values(_FORGOTTEN))
