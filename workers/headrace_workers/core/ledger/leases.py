"""A claim in a worker's hands: begun once, renewed, given back, found, extended; and the leases of duties that one
bridge at a time does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, bindparam, case, delete, or_, select, update

from headrace_workers.core.ledger.job_ends import lock_active
from headrace_workers.core.sql.database import among, clock, insert, locks_rows, now_ms
from headrace_workers.core.sql.statements import SingleStatements, rows_of
from headrace_workers.core.tables import CLAIMS, DUTIES, INCIDENTS, JOBS, LOOKS, READERS, STEPS


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
    subject: str | None  # this and the next: of a unit, see event_units.py
    endpoint: str | None
    due: int
    batch: int | None
    sent: bytes | None = None  # the job's value as it came, where an application was resolved
    waited_since: int | None = None  # when it first waited, for this model where a model runs it

    @property
    def as_sent(self) -> bytes:
        """Return the value of the job as it came."""
        return self.job_payload if self.sent is None else self.sent


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
    JOBS.c.sent,
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


_REAP = "reap"  # the row of LOOKS
_SLACK = 3  # a living worker renews so many times a lease: a shorter gap costs it nothing


def renew(connection: Connection, claim_ids: Sequence[int], lease_ms: int) -> frozenset[int]:
    """Put off the end of these leases; the ids that still are leases."""
    return frozenset(
        connection.execute(
            update(CLAIMS)
            .where(CLAIMS.c.id.in_(_in_order(connection, claim_ids)))
            .values(renewed_at=now_ms(), lease_until=now_ms() + lease_ms)
            .returning(CLAIMS.c.id)
        ).scalars()
    )


def _in_order(connection: Connection, claim_ids: Sequence[int]) -> Any:
    """Return a query for the claims that exist, which locks them in the order of their ids."""
    return select(CLAIMS.c.id).where(among(connection, CLAIMS.c.id, claim_ids)).order_by(CLAIMS.c.id).with_for_update()


def leased_jobs(connection: Connection, claim_ids: Sequence[int]) -> frozenset[str]:
    """Return the jobs whose steps these claims hold."""
    query = select(STEPS.c.job_id).where(among(connection, STEPS.c.claim_id, claim_ids))
    return frozenset(connection.execute(query).scalars())


def release(connection: Connection, claim_ids: Sequence[int], delay_ms: int = 0, reason: str | None = None) -> int:
    """Give back claims whose work was not done, without counting the attempt. The steps are ready again, at once or
    later.
    """
    if not claim_ids:
        return 0
    gone = (
        connection.execute(
            delete(CLAIMS).where(CLAIMS.c.id.in_(_in_order(connection, claim_ids))).returning(CLAIMS.c.id)
        )
        .scalars()
        .all()
    )
    if not gone:
        return 0
    later = {"state": "waiting", "ready_at": now_ms() + delay_ms} if delay_ms else {"state": "ready"}
    return connection.execute(
        update(STEPS)
        .where(among(connection, STEPS.c.claim_id, gone), STEPS.c.state == "leased")
        .values(
            claim_id=None,
            attempts=case((STEPS.c.attempts > 0, STEPS.c.attempts - 1), else_=0),
            **later,
            **({"reason": reason} if reason else {}),
        )
    ).rowcount


def hold(connection: Connection, job_ids: Sequence[str]) -> None:
    """Lock the claims on steps of these jobs: nobody completes them, or gives them back, before this transaction ends.

    Steps that were completed while we waited may have left new claims: they are locked, too. Their ids are random, so
    all are let go first, and then locked in order.
    """
    if not locks_rows(connection):
        return
    claimed = select(STEPS.c.claim_id).where(among(connection, STEPS.c.job_id, job_ids), STEPS.c.claim_id.is_not(None))
    wanted = set(connection.execute(claimed).scalars())
    while wanted:
        attempt = connection.begin_nested()
        connection.execute(_in_order(connection, sorted(wanted)))
        found = set(connection.execute(claimed).scalars())
        if found <= wanted:
            attempt.commit()
            return
        attempt.rollback()
        wanted = found


def unstarted_of(connection: Connection, sender: str) -> list[int]:
    """Return the claims that this bridge or worker sent out and no worker has started."""
    return list(
        connection.execute(
            select(CLAIMS.c.id).where(CLAIMS.c.sender == sender, CLAIMS.c.started_at.is_(None))
        ).scalars()
    )


def release_unstarted(connection: Connection, sender: str) -> int:
    """Give back what this bridge or worker sent out and nobody began; return the number of steps."""
    return release(connection, unstarted_of(connection, sender))


def acquit(connection: Connection, stage: str, job_ids: Sequence[str]) -> None:
    """Forget the crashes of these steps: a worker has come back from them alive."""
    jobs = sorted(lock_active(connection, job_ids))
    connection.execute(
        update(STEPS)
        .where(
            among(connection, STEPS.c.job_id, jobs),
            STEPS.c.stage == stage,
            STEPS.c.crashes > 0,
            STEPS.c.ended_at.is_(None),
        )
        .values(crashes=0)
    )


def look(connection: Connection, lease_ms: int) -> int:
    """Note that a bridge looks for leases that ran out; by how many ms they were put off before, mostly 0. Less than 0:
    the clock has gone back by that much, and what was held by the old time ends so much earlier.

    Time in which no bridge looked, since the ledger was away or its clock jumped, is no silence of workers: a lease
    ends a lease and that gap after its last sign of life, though no later than one that begins now. It is counted from
    the sign of life, so that a bridge that comes and goes keeps no dead worker's lease alive.
    """
    before = select(LOOKS.c.at).where(LOOKS.c.what == _REAP)
    seen = connection.execute(before.with_for_update()).scalar()
    now = clock(connection)  # after the lock: another that looked meanwhile must not seem to come from the future
    note = insert(connection, LOOKS).values(what=_REAP, at=now)
    connection.execute(note.on_conflict_do_update(index_elements=["what"], set_={"at": now}))
    gap = now - seen if seen is not None else 0
    if gap < -lease_ms:
        _set_back(connection, now, lease_ms, gap)
        return gap
    if gap <= lease_ms // _SLACK:
        return 0
    due = case(
        (CLAIMS.c.renewed_at + lease_ms + gap < now + lease_ms, CLAIMS.c.renewed_at + lease_ms + gap),
        else_=now + lease_ms,
    )
    ids = _free(connection, CLAIMS.c.id, CLAIMS.c.lease_until < due)
    if not ids:
        return 0
    connection.execute(update(CLAIMS).where(among(connection, CLAIMS.c.id, ids)).values(lease_until=due))
    return gap


def _set_back(connection: Connection, now: int, lease_ms: int, by: int) -> None:
    """Shorten leases that the clock, set back, would prolong for dead processes. Living processes renew theirs.

    Delays are left as they are: a step comes later by that time.
    """
    old = CLAIMS.c.renewed_at > now - by // 2  # and not one that is being renewed at this moment
    renewed = update(CLAIMS).where(among(connection, CLAIMS.c.id, _free(connection, CLAIMS.c.id, old)))
    connection.execute(renewed.values(renewed_at=CLAIMS.c.renewed_at + by, lease_until=CLAIMS.c.lease_until + by))
    since = INCIDENTS.c.since + by
    moved = (
        update(INCIDENTS)
        .where(INCIDENTS.c.seen_at > now)
        .values(since=case((since < now, since), else_=now), seen_at=now)
    )
    connection.execute(moved)
    for table in (DUTIES, READERS):  # what was taken since may be among these, and is taken again
        held = _free(connection, table.c.name, table.c.lease_until > now + lease_ms)
        until = update(table).where(among(connection, table.c.name, held))
        connection.execute(until.values(lease_until=table.c.lease_until + by))


def _free(connection: Connection, key: Any, which: ColumnElement[bool]) -> list[Any]:
    """Return the keys of such rows, locked; rows that another transaction holds are left to it."""
    query = select(key).where(which)
    return list(connection.execute(query.with_for_update(skip_locked=True)).scalars())


def hold_duty(connection: Connection, name: str, holder: str, lease_ms: int) -> bool:
    """Take or keep a duty; False while another holds it."""
    until = now_ms() + lease_ms
    kept = connection.execute(
        update(DUTIES)
        .where(DUTIES.c.name == name, or_(DUTIES.c.holder == holder, DUTIES.c.lease_until < now_ms()))
        .values(holder=holder, lease_until=until)
    ).rowcount
    if kept:
        return True
    taken = connection.execute(
        insert(connection, DUTIES)
        .on_conflict_do_nothing(index_elements=["name"])
        .values(name=name, holder=holder, lease_until=until)
        .returning(DUTIES.c.name)
    ).first()
    return taken is not None


def lay_down_duty(connection: Connection, holder: str, name: str | None = None) -> None:
    """Give up a duty, or every one, so that another bridge need not wait for the lease."""
    given_up = delete(DUTIES).where(DUTIES.c.holder == holder)
    connection.execute(given_up if name is None else given_up.where(DUTIES.c.name == name))
