"""The worker's first act: take up a claim, once, and read what is to be done."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Connection, bindparam, or_, select, update

from headrace_workers.core.sql.database import now_ms
from headrace_workers.core.sql.single_statements import SingleStatements, rows_of
from headrace_workers.core.tables import CLAIMS, JOBS, STEPS


class StepRow(NamedTuple):
    """A claimed step with its job: everything that the worker needs to run it and to write what follows."""

    job_id: str
    tenant: str
    kind: str
    job_payload: bytes
    traceparent: str | None
    correlationid: str | None
    replays: int
    accepted_at: int
    attempts: int
    ready_at: int
    event_type: str
    payload: bytes | None
    lane: int
    rank: int
    deadline: int
    turn: int
    tokens: int
    ordinal: int
    context: bytes | None
    woken_by: str | None
    held_at: int | None  # since when it is held, where it is run again because of that
    subject: str | None  # this and the next: of a unit, see units.py
    endpoint: str | None
    due: int
    batch: int | None
    waited_since: int | None = None  # when it first waited, for this model where a model runs it


@dataclass(frozen=True, slots=True)
class Started:
    """A claim in a worker's hands. `now` is the database's clock at the start, in ms."""

    claim_id: int
    queue: str
    stage: str
    group_key: str
    full: bool
    tokens: int
    now: int
    steps: tuple[StepRow, ...]


_CLAIM = [CLAIMS.c[name] for name in ("id", "queue", "stage", "group_key", "full", "tokens", "started_at")]
_HEAD = len(_CLAIM)
_BEGIN = (
    update(CLAIMS)
    .where(CLAIMS.c.id == bindparam("claim"), or_(CLAIMS.c.started_at.is_(None), CLAIMS.c.worker == bindparam("by")))
    .values(
        started_at=now_ms(),
        worker=bindparam("by"),
        renewed_at=now_ms(),
        lease_until=now_ms() + bindparam("lease_ms", type_=BigInteger),
    )
    .returning(*_CLAIM)
)
# In the order of StepRow's fields, and the state. That is looked at here, not in SQL: there it would tempt the planner
# to read the index of all active jobs.
_COLUMNS = (
    STEPS.c.job_id,
    JOBS.c.tenant,
    JOBS.c.kind,
    JOBS.c.payload,
    JOBS.c.traceparent,
    JOBS.c.correlationid,
    JOBS.c.replays,
    JOBS.c.accepted_at,
    STEPS.c.attempts,
    STEPS.c.ready_at,
    STEPS.c.event_type,
    STEPS.c.payload,
    STEPS.c.lane,
    STEPS.c.rank,
    STEPS.c.deadline,
    STEPS.c.turn,
    STEPS.c.tokens,
    STEPS.c.ordinal,
    STEPS.c.context,
    STEPS.c.woken_by,
    STEPS.c.held_at,
    JOBS.c.subject,
    JOBS.c.endpoint,
    STEPS.c.due,
    JOBS.c.batch,
    STEPS.c.waited_since,
    JOBS.c.state,
)
_ORDER = (STEPS.c.rank, STEPS.c.due, STEPS.c.turn, STEPS.c.job_id)
_STEPS = (
    select(*_COLUMNS)
    .join(JOBS, JOBS.c.id == STEPS.c.job_id)
    .where(STEPS.c.claim_id == bindparam("claim"))
    .order_by(*_ORDER)
)
_NO_STEP = (None,) * (len(StepRow._fields) + 1)
# On PostgreSQL both in one statement: each round trip that an interactive job waits for is a part of its latency.
_BEGUN = _BEGIN.cte("begun")
_BEGUN_STEPS = (
    select(*_BEGUN.c, *_COLUMNS)
    .select_from(_BEGUN.outerjoin(STEPS.join(JOBS, JOBS.c.id == STEPS.c.job_id), STEPS.c.claim_id == _BEGUN.c.id))
    .order_by(*_ORDER)
)


def start(where: Connection | SingleStatements, claim_id: int, *, worker: str, lease_ms: int) -> Started | None:
    """Begin a claim; None when another began it, or it ran out or was given back: then there is nothing to do.

    On PostgreSQL this is one statement, and needs no transaction.

    The same worker may ask again, because it never got the answer: whether it runs the claim already, it knows itself.
    """
    values = {"claim": claim_id, "by": worker, "lease_ms": lease_ms}
    found: list[tuple[Any, ...]]
    if where.dialect.name == "postgresql":
        found = list(rows_of(where, _BEGUN_STEPS, values))
    else:
        begun = rows_of(where, _BEGIN, values)
        rows = rows_of(where, _STEPS, {"claim": claim_id}) if begun else ()
        found = [(*begun[0], *row) for row in rows] or [(*row, *_NO_STEP) for row in begun]
    if not found:
        return None
    # The step of a job that was cancelled since is left out, and put away when the claim ends.
    steps = tuple(StepRow._make(row[_HEAD:-1]) for row in found if row[-1] == "active")
    claim, queue, stage, group_key, full, tokens, now = found[0][:_HEAD]
    return Started(claim, queue, stage, group_key, full, tokens, now, steps)
