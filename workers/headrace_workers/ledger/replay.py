"""Giving the dead another chance, by hand: one, some, or all."""

import json
from dataclasses import dataclass

from sqlalchemy import Connection, Row, Select, or_, select, update

from headrace_schemas import Category, Topic
from headrace_workers.ledger.database import locks_rows, now_ms
from headrace_workers.ledger.outbox import Outgoing, put
from headrace_workers.ledger.tables import DEAD_LETTERS, JOBS, STEPS

# Whoever looks for a letter knows its own id, its job's, or what the refused record said of itself.
_NAMES = tuple(
    DEAD_LETTERS.c[name] for name in ("id", "job_id", "refers_to", "key", "ce_id", "ce_subject", "correlationid")
)


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Which dead letters are meant. Absent conditions hold for all; replayed ones are left out unless asked for."""

    id: str | None = None  # any of the names that a letter goes by, see _NAMES
    category: Category | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    replayed: bool = False


def find(connection: Connection, wanted: DeadFilter, limit: int) -> list[Row[tuple[object, ...]]]:
    """Dead letters, newest first."""
    return list(connection.execute(_select(wanted).limit(limit)).all())


def _select(wanted: DeadFilter) -> Select[tuple[object, ...]]:
    query = select(DEAD_LETTERS).order_by(DEAD_LETTERS.c.died_at.desc(), DEAD_LETTERS.c.id)
    if wanted.id is not None:
        query = query.where(or_(*(column == wanted.id for column in _NAMES)))
    if wanted.category is not None:
        query = query.where(DEAD_LETTERS.c.category == str(wanted.category))
    if wanted.since_ms is not None:
        query = query.where(DEAD_LETTERS.c.died_at >= wanted.since_ms)
    if wanted.until_ms is not None:
        query = query.where(DEAD_LETTERS.c.died_at < wanted.until_ms)
    if not wanted.replayed:
        query = query.where(DEAD_LETTERS.c.replayed_at.is_(None))
    return query


def replay(connection: Connection, wanted: DeadFilter, limit: int = 1_000) -> tuple[int, int]:
    """Put the dead back to work: (how many, how many cannot be because the original was cut).

    An accepted job goes on at the step where it died. A record that was refused at the door is published again.
    """
    rows = connection.execute(_select(wanted).limit(limit)).all()
    whole = [row for row in rows if not row.truncated]
    jobs = {row.job_id for row in whole if row.job_id and row.stage != "ingest"}
    if jobs:
        if locks_rows(connection):  # in their order, so that nobody waits for us in a circle
            connection.execute(select(JOBS.c.id).where(JOBS.c.id.in_(jobs)).order_by(JOBS.c.id).with_for_update())
        revived = set(
            connection.execute(
                update(JOBS)
                .where(JOBS.c.id.in_(jobs), JOBS.c.state == "dead")
                .values(state="active", ended_at=None, terminal=None, terminal_type=None, replays=JOBS.c.replays + 1)
                .returning(JOBS.c.id)
            ).scalars()
        )
        connection.execute(
            update(STEPS)
            .where(STEPS.c.job_id.in_(revived), STEPS.c.state == "dead")
            .values(state="ready", attempts=0, crashes=0, ready_at=now_ms(), ended_at=None)
        )
    put(
        connection,
        [
            Outgoing(Topic(row.topic), row.key or row.refers_to, json.loads(row.headers), row.value)
            for row in whole
            if row.stage == "ingest"
        ],
    )
    connection.execute(
        update(DEAD_LETTERS).where(DEAD_LETTERS.c.id.in_([r.id for r in whole])).values(replayed_at=now_ms())
    )
    return len(whole), len(rows) - len(whole)
