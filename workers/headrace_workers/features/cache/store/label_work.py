"""The work of a model that labels audits, each a unit: see audit_rows.py."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, update

from headrace_workers.core.ledger.charges import NextCall
from headrace_workers.core.ledger.claims import assign
from headrace_workers.core.ledger.model_calls import WantedWork, may_work
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.sql.database import clock, insert
from headrace_workers.core.tables import JOBS, SILENT
from headrace_workers.features.cache.audit_tables import AUDITS
from headrace_workers.features.cache.store.audit_rows import Label, are, labelled, locked, verified

_PATIENCE_MS = 3 * 86_400_000  # for which the model may be away


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelWork:
    """The work of labelling one audit: its step, and the call of a model that it needs."""

    audit_id: str
    tenant: str
    step: NewStep
    call: NextCall


@dataclass(frozen=True, slots=True)
class Labelled:
    """A verifier's label of an audit."""

    audit_id: str
    label: Label
    by: str
    reason: str

    def write(self, connection: Connection) -> None:
        """Write it; nothing where a person was faster."""
        verified(connection, self.audit_id, self.label, self.by, self.reason)


def ask(connection: Connection, works: Sequence[LabelWork], by: str) -> None:
    """Make these units, which reserve for their calls. An audit whose call a budget does not hold stays unknown, and so
    do all others until they are labelled: nobody asks about them again.
    """
    there = set(locked(connection, are(connection, [work.audit_id for work in works])))
    works = [work for work in works if work.audit_id in there]
    wanted = [WantedWork(work.step.job_id, work.tenant, work.step.tokens, work.call) for work in works]
    reasons = may_work(connection, wanted)
    now = clock(connection)
    for work in works:
        refused = reasons.get(work.step.job_id)
        values = labelled("unknown", by, "the verifier was asked" if refused is None else f"given up: {refused}")
        connection.execute(update(AUDITS).where(AUDITS.c.id == work.audit_id).values(values))
    let_in = [work for work in works if work.step.job_id not in reasons]
    for work in let_in:
        connection.execute(
            insert(connection, JOBS).values(
                id=work.step.job_id, tenant=work.tenant, kind=SILENT, state="active", payload=b"", accepted_at=now,
                subject=work.audit_id, endpoint="label",
            ).on_conflict_do_nothing()
        )  # fmt: skip
    assign(connection, [work.step._replace(deadline=now + _PATIENCE_MS) for work in let_in], None, now)
