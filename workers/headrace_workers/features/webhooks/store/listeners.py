"""Listeners to the ends of jobs: registered endpoints of a tenant, and callbacks that jobs name."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, or_, select

from headrace_workers.core.ledger.new_jobs import NewJob
from headrace_workers.core.sql.database import among, bindparam_of, insert, one_of
from headrace_workers.core.sql.single_statements import SingleStatements, rows_of
from headrace_workers.core.tables import JOBS
from headrace_workers.features.webhooks.tables import CALLBACKS_OF_JOBS, ENDPOINTS, LISTENS


@dataclass(frozen=True, slots=True)
class Listener:
    """One that is to hear of a job: a registered endpoint with the events that it asked for."""

    endpoint_id: str
    events: tuple[str, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """The listeners to a job: `endpoints` are its tenant's, `callback` is the job's own (JSON)."""

    tenant: str
    endpoints: tuple[Listener, ...]
    callback: str | None


# One question for each batch of the relay, whatever is in it: mostly nobody listens at all.
_ANYBODY: Final = select(
    or_(
        select(ENDPOINTS.c.id).where(LISTENS).exists(),
        select(CALLBACKS_OF_JOBS.c.job_id).exists(),
    ).label("anybody")
)


def anybody(where: Connection | SingleStatements) -> bool:
    """Return whether anybody listens to anything."""
    ((found,),) = rows_of(where, _ANYBODY, {})
    return bool(found)


def heard(where: Connection | SingleStatements, job_ids: Sequence[str]) -> dict[str, Heard]:
    """Return those of these jobs that somebody listens to."""
    found: dict[str, Heard] = {}
    rows = rows_of(where, _heard(where.dialect.name), {"ids": list(job_ids)})
    for job_id, tenant, wish, endpoint_id, events, whole in rows:
        before = found.get(job_id) or Heard(tenant, (), wish)
        own = (Listener(endpoint_id, tuple(json.loads(events)), whole),) if endpoint_id else ()
        found[job_id] = Heard(tenant, before.endpoints + own, wish)
    return found


@lru_cache
def _heard(dialect: str) -> Select[Any]:
    listens = and_(ENDPOINTS.c.tenant == JOBS.c.tenant, LISTENS)
    return (
        select(JOBS.c.id, JOBS.c.tenant, CALLBACKS_OF_JOBS.c.wish, ENDPOINTS.c.id.label("endpoint"), ENDPOINTS.c.events,
               ENDPOINTS.c.whole)
        .select_from(
            JOBS.outerjoin(CALLBACKS_OF_JOBS, CALLBACKS_OF_JOBS.c.job_id == JOBS.c.id).outerjoin(ENDPOINTS, listens)
        )
        .where(
            one_of(dialect, JOBS.c.id, bindparam_of(dialect, JOBS.c.id, name="ids")),
            or_(CALLBACKS_OF_JOBS.c.wish.is_not(None), ENDPOINTS.c.id.is_not(None)),
        )
        .order_by(ENDPOINTS.c.created_at, ENDPOINTS.c.id)
    )  # fmt: skip


def told_whole(connection: Connection, endpoint_ids: Sequence[str]) -> frozenset[str]:
    """Return those of these endpoints that are told the whole receipt."""
    query = select(ENDPOINTS.c.id).where(among(connection, ENDPOINTS.c.id, endpoint_ids), ENDPOINTS.c.whole.is_(True))
    return frozenset(connection.execute(query).scalars())


def keep_callbacks(connection: Connection, jobs: Sequence[NewJob]) -> None:
    """Keep the callbacks that came with these jobs."""
    callbacks = [(job.id, job.callback) for job in jobs if job.callback is not None]
    if callbacks:
        rows: list[dict[str, Any]] = [{"job_id": job_id, "wish": callback} for job_id, callback in sorted(callbacks)]
        connection.execute(insert(connection, CALLBACKS_OF_JOBS).on_conflict_do_nothing(), rows)
