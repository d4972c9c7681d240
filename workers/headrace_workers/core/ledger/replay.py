"""Giving the dead another chance, by hand: one, some, or all."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, func, or_, select, update

from headrace_schemas import Category, Topic
from headrace_workers.core.ledger.accounting import account_early
from headrace_workers.core.ledger.dead_letters import INGEST, bury
from headrace_workers.core.ledger.model_calls import begin_anew
from headrace_workers.core.ledger.outbox import Outgoing, put
from headrace_workers.core.sql.database import among, clock, now_ms
from headrace_workers.core.tables import DEAD_LETTERS, JOBS, STEPS

# People look for a letter by its own id, its job's, or the ids in the refused record.
_NAMES = tuple(
    DEAD_LETTERS.c[name] for name in ("id", "job_id", "refers_to", "key", "ce_id", "ce_subject", "correlationid")
)

_BYTES = 8 * 1024**2
# All but the record as it came, which may be large.
_FACTS = (
    *(column for column in DEAD_LETTERS.c if column.name not in ("headers", "value", "size")),
    func.coalesce(DEAD_LETTERS.c.size, func.length(DEAD_LETTERS.c.value)).label("size"),
)


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Selection of dead letters. Absent conditions hold for all; replayed ones are left out unless asked for."""

    id: str | None = None  # any of the names that a letter goes by, see _NAMES
    stage: str | None = None
    tenant: str | None = None
    category: Category | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    replayed: bool = False


def find(
    connection: Connection, wanted: DeadFilter, limit: int = 100, *, whole: bool = True
) -> list[Row[tuple[object, ...]]]:
    """Return dead letters, newest first; without the records as they came (headers and value) where not `whole`."""
    query = _select(wanted, *_FACTS, *((DEAD_LETTERS.c.headers, DEAD_LETTERS.c.value) if whole else ()))
    return list(connection.execute(query.limit(limit)).all())


def _select(wanted: DeadFilter, *columns: ColumnElement[Any]) -> Select[tuple[object, ...]]:
    query = select(*columns).order_by(DEAD_LETTERS.c.died_at.desc(), DEAD_LETTERS.c.id)
    if wanted.id is not None:
        query = query.where(or_(*(column == wanted.id for column in _NAMES)))
    if wanted.stage is not None:
        query = query.where(DEAD_LETTERS.c.stage == wanted.stage)
    if wanted.tenant is not None:
        query = query.where(DEAD_LETTERS.c.tenant == wanted.tenant)
    if wanted.category is not None:
        query = query.where(DEAD_LETTERS.c.category == str(wanted.category))
    if wanted.since_ms is not None:
        query = query.where(DEAD_LETTERS.c.died_at >= wanted.since_ms)
    if wanted.until_ms is not None:
        query = query.where(DEAD_LETTERS.c.died_at < wanted.until_ms)
    if not wanted.replayed:
        query = query.where(DEAD_LETTERS.c.replayed_at.is_(None))
    return query


def replay(connection: Connection, wanted: DeadFilter, limit: int = 1_000, max_bytes: int = _BYTES) -> tuple[int, int]:
    """Put the dead back to work, so many and of so many bytes, but one at least: (how many, how many cannot be because
    the original was cut). The latter are counted when no other is left, so: call it until it finds none.

    An accepted job goes on at the step where it died, where its tenant's quotas allow that; else it dies there again. A
    unit has its patience anew. A record that was refused at the door is published again.
    """
    query = _select(wanted, *_FACTS)
    if wanted.id is None:  # cut letters would stand before the others for ever
        query = query.where(DEAD_LETTERS.c.truncated.is_(False))
    rows = connection.execute(query.limit(limit)).all()
    whole = _within([row for row in rows if not row.truncated], max_bytes)
    cut = sum(row.truncated for row in rows)
    if wanted.id is None and len(whole) == len(rows) < limit:
        lost = _select(wanted, func.count()).order_by(None).where(DEAD_LETTERS.c.truncated.is_(True))
        cut = connection.execute(lost).scalar_one()
    return _put_back(connection, whole, again=wanted.replayed), cut


def replay_these(connection: Connection, letters: Sequence[str], max_bytes: int = _BYTES) -> tuple[int, int, int]:
    """Replay letters of these ids in their order, of so many bytes, but one at least: (how many ids that covers, how
    many were replayed, how many cannot be because the original was cut). The others were replayed before, or are
    forgotten.
    """
    query = select(*_FACTS).where(
        among(connection, DEAD_LETTERS.c.id, list(letters)), DEAD_LETTERS.c.replayed_at.is_(None)
    )
    rows = {row.id: row for row in connection.execute(query)}
    whole = [rows[name] for name in letters if name in rows and not rows[name].truncated]
    first = _within(whole, max_bytes)
    covered = len(letters) if len(first) == len(whole) else letters.index(whole[len(first)].id)
    cut = sum(name in rows and rows[name].truncated for name in letters[:covered])
    return covered, _put_back(connection, first), cut


def _put_back(connection: Connection, letters: Sequence[Row[Any]], *, again: bool = False) -> int:
    """Replay these letters, whose originals are whole; return how many. Those that another transaction has replayed
    meanwhile are left out, except with `again`.
    """
    dead = _lock_dead(connection, {row.job_id for row in letters if row.job_id and row.stage != INGEST})
    ours = select(DEAD_LETTERS.c.id).where(among(connection, DEAD_LETTERS.c.id, [row.id for row in letters]))
    if not again:
        ours = ours.where(DEAD_LETTERS.c.replayed_at.is_(None))
    # After their jobs, and in their order, so that nobody waits for us in a circle.
    locked = frozenset(connection.execute(ours.order_by(DEAD_LETTERS.c.id).with_for_update()).scalars())
    letters = [row for row in letters if row.id in locked]
    jobs = {row.job_id for row in letters}
    _revive(connection, [row for job_id, row in dead.items() if job_id in jobs])
    refused = [row.id for row in letters if row.stage == INGEST]
    rows = connection.execute(select(DEAD_LETTERS).where(among(connection, DEAD_LETTERS.c.id, refused))).all()
    records = {
        row.id: Outgoing(Topic(row.topic), row.key or row.refers_to, json.loads(row.headers), row.value) for row in rows
    }
    put(connection, [records[number] for number in refused if number in records])
    connection.execute(
        update(DEAD_LETTERS).where(among(connection, DEAD_LETTERS.c.id, sorted(locked))).values(replayed_at=now_ms())
    )
    return len(letters)


def _lock_dead(connection: Connection, jobs: Collection[str]) -> dict[str, Row[Any]]:
    """Lock those of these jobs and units that are dead, and return them."""
    if not jobs:
        return {}
    names = ("id", "subject", "tenant", "application", "replays", "ended_at", "terminal", "state")
    columns = (JOBS.c[name] for name in names)
    query = select(*columns).where(among(connection, JOBS.c.id, sorted(jobs)), JOBS.c.state == "dead")
    # In their order, so that nobody waits for us in a circle.
    return {row.id: row for row in connection.execute(query.order_by(JOBS.c.id).with_for_update())}


def _revive(connection: Connection, dead: Sequence[Row[Any]]) -> None:
    """Let these dead jobs and units, which are locked, go on where they died."""
    if not dead:
        return
    mine = sorted(row.id for row in dead if row.subject is None)
    units = [row.id for row in dead if row.subject is not None]
    if mine:
        account_early(connection, [row for row in dead if row.subject is None])
    connection.execute(
        update(JOBS)
        .where(among(connection, JOBS.c.id, [*mine, *units]))
        .values(state="active", ended_at=None, terminal=None, terminal_type=None, replays=JOBS.c.replays + 1)
    )
    _be_patient(connection, units)
    refused = begin_anew(connection, mine) if mine else []
    connection.execute(
        update(STEPS)
        .where(among(connection, STEPS.c.job_id, [*mine, *units]), STEPS.c.state == "dead")
        .values(
            state="ready",
            attempts=0,
            crashes=0,
            ready_at=now_ms(),
            ended_at=None,
            reason=None,
            held_at=None,
            waited_since=None,
        )
    )
    bury(connection, refused, clock(connection))


def _be_patient(connection: Connection, units: Sequence[str]) -> None:
    """Restart a unit's time limit, which began when it was made. A job's deadline is its sender's, and stays."""
    if not units:
        return
    now = clock(connection)
    began = select(JOBS.c.accepted_at).where(JOBS.c.id == STEPS.c.job_id).scalar_subquery()
    steps = update(STEPS).where(among(connection, STEPS.c.job_id, units))
    connection.execute(steps.values(deadline=STEPS.c.deadline - began + now))
    connection.execute(update(JOBS).where(among(connection, JOBS.c.id, units)).values(accepted_at=now))


def _within(rows: Sequence[Row[Any]], max_bytes: int) -> list[Row[Any]]:
    """Return the first of these whose records have so many bytes together; one at least. A job's own is not read."""
    found: list[Row[Any]] = []
    size = 0
    for row in rows:
        size += row.size if row.stage == INGEST else 0
        if found and size > max_bytes:
            break
        found.append(row)
    return found
