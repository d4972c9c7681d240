"""Further calls of models for jobs that were taken in: each is let in, or ends its job, where it is routed."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, and_, bindparam, select, update

from headrace_schemas import Category
from headrace_workers.core.ledger import accounting
from headrace_workers.core.ledger.charges import Bill, NextCall, context_of, cost_of, uncharged
from headrace_workers.core.ledger.dead_letters import BURIED, Burial, job_burial
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.ledger.job_ends import ActiveJob, concerned
from headrace_workers.core.ledger.outcome import Dead
from headrace_workers.core.pipeline.stage import model_of, model_queue
from headrace_workers.core.sql.database import among
from headrace_workers.core.tables import JOBS, SILENT, STEPS

_CHARGED: Final = (
    update(STEPS)
    .where(STEPS.c.job_id == bindparam("job"), STEPS.c.stage == bindparam("at"), STEPS.c.ordinal == bindparam("round"))
    .values(context=bindparam("said"))
)


@dataclass(frozen=True, slots=True)
class WantedCall:
    """A call of a model that a job is routed to. `spent` is what its calls before cost, save for lost ones, and `most`
    what this one may cost, in micro-units. Where it `goes_on` with a long one, a budget that was lowered ends it. For
    training also the tokens that were `trained`, and those that are left `to_train`.
    """

    model: str
    spent: int
    most: int
    goes_on: bool = False
    trained: int = 0
    to_train: int | None = None


@dataclass(frozen=True, slots=True)
class WantedWork:
    """A dead job that goes on at the step where it died, or a unit that asks a model: the tokens that it may use from
    there, and the call of a model that it is routed to, if it is.
    """

    id: str
    tenant: str
    tokens: int
    call: NextCall | None


def refused(connection: Connection, calls: Mapping[str, WantedCall], active: Mapping[str, ActiveJob]) -> dict[str, str]:
    """Let features reserve for these calls; return the jobs that may not make theirs, each with the reason.

    `active` are all jobs that the caller has locked, also those that end: what features keep of their tenants is locked
    at once, so that their ends lock nothing more. Lock order: after the steps, since quotas are.
    """
    reasons: dict[str, str] = {}
    lost = accounting.spent(connection, [call for call in calls if call in active and active[call].has_lost_calls])
    calls = {job_id: replace(call, spent=call.spent + lost.get(job_id, 0)) for job_id, call in calls.items()}
    everybody = concerned(active, list(active))
    for feature, job_ids in concerned(active, [job_id for job_id in calls if job_id in active]).items():
        if feature.on_calls is None:
            continue
        tenants = {active[job_id].tenant for job_id in everybody[feature]}
        if feature.hold_tenants is not None and tenants != {active[job_id].tenant for job_id in job_ids}:
            feature.hold_tenants(connection, tenants)
        reasons |= feature.on_calls(connection, {job_id: calls[job_id] for job_id in job_ids})
    return reasons


def asking(connection: Connection, claim_ids: Sequence[int]) -> list[Any]:
    """Return the steps of these claims that were asking a model: their calls are lost."""
    called = and_(
        among(connection, STEPS.c.claim_id, sorted(claim_ids)), STEPS.c.queue.startswith(model_queue("")),
        JOBS.c.subject.is_(None) | (JOBS.c.kind == SILENT),
    )  # fmt: skip
    query = (
        select(*BURIED, STEPS.c.claim_id, STEPS.c.queue, STEPS.c.context)
        .join(JOBS, JOBS.c.id == STEPS.c.job_id)
        .where(called)
        .order_by(STEPS.c.job_id)
    )
    return list(connection.execute(query)) if claim_ids else []


def note_lost(connection: Connection, rows: Sequence[Any], active: dict[str, ActiveJob]) -> None:
    """Write the lost calls of these steps, as `asking` returns them, whose jobs are locked if they are `active`."""
    rows = [row for row in rows if row.job_id in active]
    accounting.note(
        connection, [accounting.AskedModel(row.job_id, row.claim_id, row.queue, row.context) for row in rows]
    )
    active |= {row.job_id: active[row.job_id]._replace(has_lost_calls=True) for row in rows}


def call_again(connection: Connection, rows: Sequence[Any], active: Mapping[str, ActiveJob]) -> list[Burial]:
    """Reserve for these calls, which were lost and noted, once more; return the ends of the jobs that may not make
    theirs again.
    """
    rows = [row for row in rows if row.job_id in active]
    calls: dict[str, WantedCall] = {}
    for row in rows:
        bill = Bill.before(context_of(row.context), model_of(row.queue))
        if bill.call is not None and bill.call.most is not None:
            calls[row.job_id] = WantedCall(bill.call.model, bill.spent, bill.call.most)
    reasons = refused(connection, calls, active) if calls else {}
    return [
        job_burial(row, row.stage, Dead(Category.QUOTA, reasons[row.job_id]), cost_of(row.context))
        for row in rows
        if row.job_id in reasons
    ]


def may_work(connection: Connection, works: Sequence[WantedWork]) -> dict[str, str]:
    """Let features reserve for this work; return the jobs and units that may not be done, each with the reason."""
    reasons: dict[str, str] = {}
    for feature in hooks() if works else ():
        if feature.on_work is not None:
            reasons |= feature.on_work(connection, works)
    return reasons


def begin_anew(connection: Connection, job_ids: Collection[str]) -> list[Burial]:
    """Let these jobs, which the caller has locked and revived, make their next calls; return the ends of those that may
    not. Each earlier end reported the cost of the calls before it, so the cost of a job counts from here.
    """
    query = (
        select(*BURIED, STEPS.c.ordinal, STEPS.c.queue, STEPS.c.context, STEPS.c.tokens,
               STEPS.c.payload.is_not(None).label("answered"))
        .join(JOBS, JOBS.c.id == STEPS.c.job_id)
        .where(among(connection, STEPS.c.job_id, sorted(job_ids)), STEPS.c.state == "dead")
        .order_by(STEPS.c.job_id)
    )  # fmt: skip
    rows = connection.execute(query).all()
    written = [
        {"job": row.job_id, "at": row.stage, "round": row.ordinal, "said": context}
        for row in rows
        if (context := uncharged(row.context)) != row.context
    ]
    if written:
        connection.execute(_CHARGED, written)
    calls = [Bill.before(context_of(row.context), model_of(row.queue)).call for row in rows]
    jobs = [WantedWork(row.job_id, row.tenant, _left(row, call), call) for row, call in zip(rows, calls, strict=True)]
    reasons = may_work(connection, jobs)
    return [
        job_burial(row, row.stage, Dead(Category.QUOTA, reasons[row.job_id]), attempts=0)
        for row in rows
        if row.job_id in reasons
    ]


def _left(row: Any, call: NextCall | None) -> int:
    """Return the tokens that a dead job may use from the step where it died."""
    if row.kind == "tuning":
        return 0 if call is None else call.tokens
    return 0 if row.answered else int(row.tokens)
