"""The completion of jobs: answered, dead, expired, poisoned, withheld or cancelled. All of them pass `finish`."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, bindparam, select, text, update

from headrace_workers.core.ledger import accounting
from headrace_workers.core.ledger.hooks import Hooks, hooks
from headrace_workers.core.ledger.outbox import Outgoing, put
from headrace_workers.core.sql.database import among, bindparam_of, many, now_ms, one_of
from headrace_workers.core.sql.statements import run
from headrace_workers.core.tables import IS_PARKED, JOBS, SILENT, STEPS

WOKEN_AT_ONCE = 5_000

_FINISH_JOB = (
    update(JOBS)
    .where(JOBS.c.id == bindparam("job"))
    .values(
        state=bindparam("how"), ended_at=bindparam("ended"), terminal=bindparam("event"),
        terminal_type=bindparam("event_type"),
    )
)  # fmt: skip
# Many at once, on PostgreSQL: a statement for each costs ten times as much.
_FINISH_JOBS = text("""
    UPDATE jobs SET state = :how, ended_at = :ended, terminal = gone.event, terminal_type = gone.event_type
    FROM unnest(CAST(:job AS varchar[]), CAST(:event AS bytea[]), CAST(:event_type AS varchar[]))
        AS gone (job, event, event_type)
    WHERE jobs.id = gone.job
""")


class ActiveJob(NamedTuple):
    """Facts that the completion of a job or unit depends on: whether a step waits for it, whether it is a unit (its
    completion is not published), whose it is, which features its completion concerns, in the order of `_concerning`,
    and whether it has lost calls (see accounting.py). A unit that is `silent` has no dead letter either.
    """

    awaited: bool
    unit: bool
    silent: bool = False
    tenant: str = ""
    concerns: tuple[bool, ...] = ()
    has_lost_calls: bool = False


def lock_active(connection: Connection, job_ids: Sequence[str]) -> dict[str, ActiveJob]:
    """Lock the jobs and units that have not ended, and return them.

    Lock order: claims, jobs, steps.
    """
    if not job_ids:
        return {}
    rows = run(connection, _active(connection.dialect.name), {"jobs": list(job_ids)})
    return {
        job_id: ActiveJob(awaited, unit, silent, tenant, tuple(concerns), has_lost_calls)
        for job_id, awaited, unit, silent, tenant, has_lost_calls, *concerns in rows
    }


def assume_active(job_ids: Iterable[str], have_lost_calls: Collection[str]) -> dict[str, ActiveJob]:
    """Return these jobs, which the caller has locked, as if steps waited for each and it concerned every feature."""
    assumed = ActiveJob(awaited=True, unit=False, concerns=(True,) * len(_concerning()))
    return {job_id: assumed._replace(has_lost_calls=job_id in have_lost_calls) for job_id in job_ids}


def concerned(active: Mapping[str, ActiveJob], job_ids: Sequence[str]) -> dict[Hooks, list[str]]:
    """Return the features that the completion of these jobs concerns, each with its jobs, in their order."""
    found = {}
    for place, feature in enumerate(_concerning()):
        if theirs := [job_id for job_id in job_ids if active[job_id].concerns[place]]:
            found[feature] = theirs
    return found


def finish(
    connection: Connection,
    state: str,
    terminals: Sequence[tuple[str, Outgoing | None]],
    now: int,
    active: Mapping[str, ActiveJob],
    before: Sequence[Outgoing] = (),
    spent: Mapping[str, bytes] = {},
) -> dict[str, Outgoing]:
    """Finish these jobs, which `lock_active` found: write and publish the one terminal record of each, tell the
    features that it concerns, and wake the steps that wait for it. Units have no such record: `spent` is what the calls
    of those that asked a model cost, which is kept in its place. The records `before` are published before those.

    Return the terminal records that differ from the given ones, by job: they tell the cost of lost calls, too.
    """
    terminals = [(job_id, None if active[job_id].unit else record) for job_id, record in terminals]
    lost = accounting.tell(connection, [job_id for job_id, _ in terminals if active[job_id].has_lost_calls], now)
    if lost:
        terminals = [(job_id, accounting.told_with(record, lost.get(job_id, ()))) for job_id, record in terminals]
        units = (job_id for job_id in lost if active[job_id].unit)
        spent = {**spent, **{job_id: accounting.with_cost(spent.get(job_id), lost[job_id]) for job_id in units}}
    put(connection, [*before, *(record for _, record in terminals if record is not None)])
    if not terminals:
        return {}
    rows = [
        {
            "job": job_id,
            "event": record.value if record else spent.get(job_id),
            "event_type": record and record.headers["ce_type"],
        }
        for job_id, record in terminals
    ]
    how = {"how": state, "ended": now}
    if len(rows) > 1 and connection.dialect.name == "postgresql":
        run(connection, _FINISH_JOBS, many("postgresql", rows) | how)
    else:
        run(connection, _FINISH_JOB, [row | how for row in rows])
    values = {job_id: record.value if record else spent.get(job_id) for job_id, record in terminals}
    for feature, job_ids in concerned(active, list(values)).items():
        if feature.on_completion is not None:
            feature.on_completion(connection, {job_id: values[job_id] for job_id in job_ids})
    wake(connection, [job_id for job_id in values if active[job_id].awaited])
    return {job_id: record for job_id, record in terminals if record is not None and job_id in lost}


def ended(connection: Connection, job_ids: Sequence[str]) -> list[str]:
    """Return the jobs that have ended."""
    if not job_ids:
        return []
    query = select(JOBS.c.id).where(among(connection, JOBS.c.id, job_ids), JOBS.c.ended_at.is_not(None))
    return list(connection.execute(query).scalars())


def wake(connection: Connection, job_ids: Sequence[str]) -> int:
    """Make the steps ready that wait for the end of these jobs, a bounded number a call; return how many.

    The rest, and steps that others have locked, are passed over, and found later by `recover.wake_missed`: an end that
    took as long as very many waiters take would never be written, and two transactions that end jobs which wait for
    each other must not wait in a circle.
    """
    if not job_ids:
        return 0
    parked = select(STEPS.c.job_id).where(IS_PARKED, among(connection, STEPS.c.waits_for, job_ids)).limit(WOKEN_AT_ONCE)
    free = list(connection.execute(parked.with_for_update(skip_locked=True)).scalars())
    if not free:
        return 0
    return connection.execute(
        update(STEPS)
        .where(IS_PARKED, among(connection, STEPS.c.job_id, free), among(connection, STEPS.c.waits_for, job_ids))
        .values(state="ready", ready_at=now_ms(), woken_by=STEPS.c.waits_for, waits_for=None)
    ).rowcount


def wake_waiters_of_held(connection: Connection, jobs: Mapping[str, bool]) -> None:
    """Wake the steps that wait for these jobs, which are held, each for a person or not: nobody knows for how long."""
    if jobs:
        for feature in hooks():
            if feature.on_held is not None:
                feature.on_held(connection, jobs)
        wake(connection, list(jobs))


@lru_cache
def _concerning() -> tuple[Hooks, ...]:
    """Return the features that the completion of a job may concern."""
    return tuple(feature for feature in hooks() if feature.concerns is not None)


@lru_cache
def _active(dialect: str) -> Select[Any]:
    jobs = bindparam_of(dialect, JOBS.c.id, name="jobs")
    awaited = select(STEPS.c.job_id).where(IS_PARKED, STEPS.c.waits_for == JOBS.c.id).exists()
    query = (
        select(
            JOBS.c.id,
            awaited.label("awaited"),
            JOBS.c.subject.is_not(None).label("unit"),
            (JOBS.c.kind == SILENT).label("silent"),
            JOBS.c.tenant,
            accounting.is_untold(JOBS.c.id).label("has_lost_calls"),
            *(item.concerns().label(f"concerns_{n}") for n, item in enumerate(_concerning()) if item.concerns),
        )
        .where(one_of(dialect, JOBS.c.id, jobs), JOBS.c.state == "active")
        .order_by(JOBS.c.id)
    )
    return query.with_for_update(of=JOBS) if dialect == "postgresql" else query
