"""Figures of similar jobs for estimates: recent answers, and when their groups ran."""

from typing import Any

from sqlalchemy import Connection, Row, and_, select

from headrace_workers.core.tables import JOBS, STEPS


def lately(connection: Connection, stage: str, limit: int) -> list[Row[Any]]:
    """Return the generation jobs that were answered last: payload, terminal, started_at, ended_at of the stage (ms)."""
    ran = and_(STEPS.c.job_id == JOBS.c.id, STEPS.c.stage == stage, STEPS.c.state == "done")
    last = (
        select(JOBS.c.id, JOBS.c.ended_at)
        .where(JOBS.c.ended_at.is_not(None))
        .order_by(JOBS.c.ended_at.desc())
        .limit(limit)
        .subquery()
    )
    query = (
        select(JOBS.c.payload, JOBS.c.terminal, STEPS.c.started_at, STEPS.c.ended_at)
        .select_from(last.join(JOBS, JOBS.c.id == last.c.id).join(STEPS, ran))
        .where(JOBS.c.state == "done", JOBS.c.kind == "generation", JOBS.c.subject.is_(None))
    )
    return list(connection.execute(query))
