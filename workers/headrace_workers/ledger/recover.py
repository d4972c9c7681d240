"""What time alone brings about: leases that ran out, delays that ended, deadlines that passed, records grown old."""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, delete, or_, select, text, update

from headrace_schemas import Category
from headrace_workers.ledger import troubles
from headrace_workers.ledger.database import among, clock, locks_rows, now_ms
from headrace_workers.ledger.dead import Burial, bury, job_burial
from headrace_workers.ledger.leases import release
from headrace_workers.ledger.tables import CLAIMS, DEAD_LETTERS, IS_WAITING, JOBS, MAY_EXPIRE, OUTBOX, STEPS

_AT_ONCE = 500

# A worker may run several claims side by side, and its death does not say which of them was the cause. So a death
# counts this many times more against a step that was all that its worker ran; and steps that died in company come back
# at different times, so that the innocent are not beside the culprit again and again.
_ALONE = 4
_FIRST_SPREAD, _LONGEST_SPREAD = 1_000, 30_000  # ms


@dataclass(frozen=True, slots=True)
class Reaped:
    """What one reap did, in steps: given back unstarted, given back after a worker died, and dead as poison."""

    unstarted: int = 0
    crashed: int = 0
    poison: int = 0


def promote(connection: Connection) -> int:
    """Make the steps ready whose delay has ended."""
    return connection.execute(
        update(STEPS).where(IS_WAITING, STEPS.c.ready_at <= now_ms()).values(state="ready")
    ).rowcount


def extend_leases(connection: Connection, by_ms: int, lease_ms: int) -> int:
    """Put off every lease, after the database's clock has jumped forward by this much.

    None ends later than one that begins now: each of many bridges may see the same jump.
    """
    put_off, fresh = CLAIMS.c.lease_until + by_ms, now_ms() + lease_ms
    return connection.execute(
        update(CLAIMS)
        .where(CLAIMS.c.lease_until < fresh)
        .values(lease_until=case((put_off < fresh, put_off), else_=fresh))
    ).rowcount


def reap(connection: Connection, max_crashes: int) -> Reaped:
    """Take back the steps of claims whose lease ran out, and whatever else their workers had begun.

    A group whose worker died is split in two, so that a step that kills its worker soon stands alone; only what
    killed its worker `max_crashes` times alone is poison. A claim that no worker began is given back as it was.
    """
    claims = _lost(connection)
    if not claims:
        return Reaped()
    unstarted = release(connection, [c.id for c in claims if c.started_at is None])
    begun = [c for c in claims if c.started_at is not None]
    connection.execute(delete(CLAIMS).where(among(connection, CLAIMS.c.id, [c.id for c in begun])))
    company = Counter(claim.worker for claim in begun)
    crashed = poison = 0
    for claim in begun:
        alone = company[claim.worker] == 1
        returned, dead = _split(connection, claim.id, claim.worker or "?", max_crashes, alone=alone)
        crashed += returned
        poison += dead
    return Reaped(unstarted, crashed, poison)


def _lost(connection: Connection) -> list[Any]:
    """The claims whose lease ran out, and those that the same workers, now taken for dead, have begun."""
    columns = select(CLAIMS.c.id, CLAIMS.c.started_at, CLAIMS.c.worker)
    if locks_rows(connection):
        columns = columns.with_for_update(skip_locked=True)
    expired = list(connection.execute(columns.where(CLAIMS.c.lease_until < now_ms()).limit(_AT_ONCE)))
    workers = {claim.worker for claim in expired if claim.worker is not None}
    if not workers:
        return expired
    seen = {claim.id for claim in expired}
    others = connection.execute(columns.where(among(connection, CLAIMS.c.worker, list(workers))))
    return expired + [claim for claim in others if claim.id not in seen]


def _split(connection: Connection, claim_id: int, worker: str, max_crashes: int, *, alone: bool) -> tuple[int, int]:
    rows = connection.execute(
        select(STEPS.c.job_id, STEPS.c.crashes)
        .where(STEPS.c.claim_id == claim_id)
        .order_by(STEPS.c.rank, STEPS.c.deadline, STEPS.c.turn, STEPS.c.job_id)
    ).all()
    why = f"the lease ran out while {worker} ran it: the worker died or hung"
    if len(rows) == 1:
        crashes = rows[0].crashes + (_ALONE if alone else 1)
        if crashes >= max_crashes * _ALONE:
            reason = "its worker died or hung again and again while it ran this job"
            burials = _burials(connection, STEPS.c.claim_id == claim_id, Category.POISON, reason)
            return 0, bury(connection, burials, clock(connection))
        later = {} if alone else {"state": "waiting", "ready_at": now_ms() + _apart(rows[0].job_id, crashes)}
        _return(connection, claim_id, rows, {"reason": why, "crashes": crashes, **later})
        return 1, 0
    half = (len(rows) + 1) // 2
    for suffix, part in (("~0", rows[:half]), ("~1", rows[half:])):
        _return(connection, claim_id, part, {"reason": why, "group_key": STEPS.c.group_key + suffix})
    return len(rows), 0


def _return(connection: Connection, claim_id: int, rows: Sequence[Any], values: dict[str, Any]) -> None:
    if rows:
        connection.execute(
            update(STEPS)
            .where(STEPS.c.claim_id == claim_id, among(connection, STEPS.c.job_id, [row.job_id for row in rows]))
            .values({"state": "ready", "claim_id": None, **values})
        )


def _apart(job_id: str, crashes: int) -> int:
    """How many ms a step waits that died in company: another number for each job and each time."""
    spread = min(_LONGEST_SPREAD, _FIRST_SPREAD << crashes)
    return zlib.crc32(f"{job_id} {crashes}".encode()) % spread


def expire(connection: Connection) -> int:
    """End the jobs whose deadline passed while they waited."""
    where = and_(STEPS.c.deadline < now_ms(), MAY_EXPIRE)
    reason = "the deadline passed before a worker could take it"
    return bury(connection, _burials(connection, where, Category.EXPIRED, reason), clock(connection))


def prune(connection: Connection, older_than_ms: int) -> int:
    """Forget jobs that ended long ago, with their steps and dead letters; the number of jobs.

    Not those of which an event was set aside: someone has yet to see to it, and will ask which job it is of.
    """
    before = now_ms() - older_than_ms
    untold = select(OUTBOX.c.id).where(OUTBOX.c.key == JOBS.c.id, text("outbox.set_aside_at IS NOT NULL")).exists()
    ended = select(JOBS.c.id).where(JOBS.c.ended_at < before, ~untold).limit(_AT_ONCE)
    old = list(connection.execute(ended).scalars())
    troubles.forget(connection)
    never_a_job = or_(
        DEAD_LETTERS.c.job_id.is_(None), ~select(JOBS.c.id).where(JOBS.c.id == DEAD_LETTERS.c.job_id).exists()
    )
    connection.execute(delete(DEAD_LETTERS).where(DEAD_LETTERS.c.died_at < before, never_a_job))
    if old:
        for table, column in ((STEPS, STEPS.c.job_id), (DEAD_LETTERS, DEAD_LETTERS.c.job_id), (JOBS, JOBS.c.id)):
            connection.execute(delete(table).where(among(connection, column, old)))
    return len(old)


def _burials(connection: Connection, where: Any, category: Category, reason: str) -> list[Burial]:
    query = (
        select(STEPS.c.job_id, STEPS.c.stage, STEPS.c.attempts, JOBS.c.tenant, JOBS.c.kind, JOBS.c.payload,
               JOBS.c.replays, JOBS.c.traceparent, JOBS.c.correlationid)
        .join(JOBS, JOBS.c.id == STEPS.c.job_id)
        .where(where)
        .limit(_AT_ONCE)
    )  # fmt: skip
    rows = connection.execute(query).all()
    return [
        job_burial(
            job_id=r.job_id,
            tenant=r.tenant,
            kind=r.kind,
            payload=r.payload,
            replays=r.replays,
            traceparent=r.traceparent,
            correlationid=r.correlationid,
            stage=r.stage,
            attempts=r.attempts,
            category=category,
            reason=reason,
        )
        for r in rows
    ]
