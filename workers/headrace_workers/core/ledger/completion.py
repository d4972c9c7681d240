"""How a job ends, well or badly: answered, dead, expired, poisoned, withheld or cancelled. All of them pass `end`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, delete, select, text, update

from headrace_workers.core.ledger import changes
from headrace_workers.core.ledger.outbox import Outgoing, put
from headrace_workers.core.sql.database import among, bindparam_of, many, now_ms, one_of
from headrace_workers.core.sql.direct import run
from headrace_workers.core.tables import IS_PARKED, JOBS, SILENT, STEPS
from headrace_workers.features.access.store import token_quotas
from headrace_workers.features.access.tables import RESERVATIONS
from headrace_workers.features.cache.tables import ENTRIES, ENTRY, IS_PENDING

_WOKEN_AT_ONCE = 5_000

_END_JOB = (
    update(JOBS)
    .where(JOBS.c.id == bindparam("job"))
    .values(
        state=bindparam("how"), ended_at=bindparam("ended"), terminal=bindparam("event"),
        terminal_type=bindparam("event_type"),
    )
)  # fmt: skip
# Many at once, on PostgreSQL: a statement for each costs ten times as much.
_END_JOBS = text("""
    UPDATE jobs SET state = :how, ended_at = :ended, terminal = gone.event, terminal_type = gone.event_type
    FROM unnest(CAST(:job AS varchar[]), CAST(:event AS bytea[]), CAST(:event_type AS varchar[]))
        AS gone (job, event, event_type)
    WHERE jobs.id = gone.job
""")


@dataclass(frozen=True, slots=True)
class Alive:
    """What a job's end depends on: whether a step waits for it, whether it is a unit (nobody hears of its end), and
    whether it makes an answer that others would be given. One that is `silent` has no dead letter either. For one that
    is `reserved` its tenant's quota is settled.
    """

    awaited: bool
    unit: bool
    makes: bool
    silent: bool = False
    reserved: bool = False


def active(connection: Connection, job_ids: Sequence[str]) -> dict[str, Alive]:
    """Those of these jobs and units that have not ended, locked for this transaction.

    Lock order: claims, jobs, steps.
    """
    if not job_ids:
        return {}
    rows = run(connection, _active(connection.dialect.name), {"jobs": list(job_ids)})
    return {job_id: Alive(*facts) for job_id, *facts in rows}


def end(
    connection: Connection,
    state: str,
    terminals: Sequence[tuple[str, Outgoing | None]],
    now: int,
    alive: Mapping[str, Alive],
    before: Sequence[Outgoing] = (),
) -> None:
    """End these jobs, which `active` found alive: write and publish the one terminal record of each, and wake the
    steps that wait for them. Units have no such record. An answer that is still pending comes no more. The records
    `before` are published before those.
    """
    terminals = [(job_id, None if alive[job_id].unit else record) for job_id, record in terminals]
    put(connection, [*before, *(record for _, record in terminals if record is not None)])
    if not terminals:
        return
    rows = [
        {"job": job_id, "event": record and record.value, "event_type": record and record.headers["ce_type"]}
        for job_id, record in terminals
    ]
    how = {"how": state, "ended": now}
    if len(rows) > 1 and connection.dialect.name == "postgresql":
        run(connection, _END_JOBS, many("postgresql", rows) | how)
    else:
        run(connection, _END_JOB, [row | how for row in rows])
    if making := [job_id for job_id, _ in terminals if alive[job_id].makes]:
        withdraw(connection, among(connection, ENTRIES.c.job_id, making))
    wake(connection, [job_id for job_id, _ in terminals if alive[job_id].awaited])
    if used := {job_id: record.value for job_id, record in terminals if record and alive[job_id].reserved}:
        token_quotas.settle(connection, used)


def ended(connection: Connection, job_ids: Sequence[str]) -> list[str]:
    """Which of these jobs have ended."""
    if not job_ids:
        return []
    query = select(JOBS.c.id).where(among(connection, JOBS.c.id, job_ids), JOBS.c.ended_at.is_not(None))
    return list(connection.execute(query).scalars())


def wake(connection: Connection, job_ids: Sequence[str]) -> int:
    """Make the steps ready that wait for the end of these jobs, a bounded number a call; how many.

    The rest, and steps that others have locked, are passed over, and found later by `recover.wake_missed`: an end that
    took as long as very many waiters take would never be written, and two transactions that end jobs which wait for
    each other must not wait in a circle.
    """
    if not job_ids:
        return 0
    parked = (
        select(STEPS.c.job_id).where(IS_PARKED, among(connection, STEPS.c.waits_for, job_ids)).limit(_WOKEN_AT_ONCE)
    )
    free = list(connection.execute(parked.with_for_update(skip_locked=True)).scalars())
    if not free:
        return 0
    return connection.execute(
        update(STEPS)
        .where(IS_PARKED, among(connection, STEPS.c.job_id, free), among(connection, STEPS.c.waits_for, job_ids))
        .values(state="ready", ready_at=now_ms(), woken_by=STEPS.c.waits_for, waits_for=None)
    ).rowcount


def pass_on(connection: Connection, job_ids: Sequence[str]) -> None:
    """These jobs are held, and nobody knows for how long: who waits for an answer of theirs makes it instead."""
    if job_ids:
        withdraw(connection, among(connection, ENTRIES.c.job_id, job_ids))
        wake(connection, job_ids)


def withdraw(connection: Connection, which: ColumnElement[bool]) -> None:
    """The answers of these entries, which are being made, come no more."""
    findable = ENTRIES.c.vector.is_not(None).label("findable")
    gone = connection.execute(delete(ENTRIES).where(IS_PENDING, which).returning(ENTRIES.c.id, findable))
    changes.note(connection, [row.id for row in gone if row.findable], ENTRY)


@lru_cache
def _active(dialect: str) -> Select[Any]:
    jobs = bindparam_of(dialect, JOBS.c.id, name="jobs")
    awaited = select(STEPS.c.job_id).where(IS_PARKED, STEPS.c.waits_for == JOBS.c.id).exists()
    reserved = select(RESERVATIONS.c.job_id).where(RESERVATIONS.c.job_id == JOBS.c.id).exists()
    makes = select(ENTRIES.c.id).where(IS_PENDING, ENTRIES.c.job_id == JOBS.c.id).exists()
    query = (
        select(
            JOBS.c.id,
            awaited.label("awaited"),
            JOBS.c.subject.is_not(None).label("unit"),
            makes.label("makes"),
            (JOBS.c.kind == SILENT).label("silent"),
            reserved.label("reserved"),
        )
        .where(one_of(dialect, JOBS.c.id, jobs), JOBS.c.state == "active")
        .order_by(JOBS.c.id)
    )
    return query.with_for_update(of=JOBS) if dialect == "postgresql" else query
