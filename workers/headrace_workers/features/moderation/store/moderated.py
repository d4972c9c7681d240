"""Moderation verdicts of the jobs that ended in a span of time."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from pydantic_core import from_json
from sqlalchemy import Connection, Row, Select, func, select, tuple_

from headrace_workers.core.sql.by_pages import by_pages
from headrace_workers.core.tables import JOBS

_RESULT: Final = "headrace.result.v1"


class Said(NamedTuple):
    """A verdict: when its job ended (ms), what was done, and of each category looked for whether it was objected to."""

    ended_at: int
    action: str
    categories: dict[str, bool]


class Span(NamedTuple):
    """The jobs that ended from `since` up to `until` (ms), of one tenant or of all."""

    since: int
    until: int
    tenant: str | None = None


def said(connection: Connection, since: int, until: int, tenant: str | None, limit: int) -> Iterator[Said]:
    """Yield the verdicts of jobs that ended from `since` up to `until` (ms), newest first, of a limited number of
    jobs.
    """
    ends = _of(select(JOBS.c.ended_at, JOBS.c.id, JOBS.c.terminal), Span(since, until, tenant))
    for job in by_pages(connection, ends, [JOBS.c.ended_at, JOBS.c.id], limit, newest=True):
        verdict = from_json(bytes(job.terminal)).get("moderation")
        if verdict is not None:
            yield Said(job.ended_at, verdict["action"], verdict.get("categories", {}))


def page(connection: Connection, span: Span, kind: str, before: tuple[int, str] | None, size: int) -> list[Row[Any]]:
    """Return the newest ends of jobs of a kind, or those before an end (`before`: when and which): ended_at (ms), id,
    tenant, payload, terminal.
    """
    columns = (JOBS.c.ended_at, JOBS.c.id, JOBS.c.tenant, JOBS.c.payload, JOBS.c.terminal)
    ends = _of(select(*columns), span).where(JOBS.c.kind == kind)
    if before is not None:
        ends = ends.where(tuple_(JOBS.c.ended_at, JOBS.c.id) < before)
    return [*connection.execute(ends.order_by(JOBS.c.ended_at.desc(), JOBS.c.id.desc()).limit(size))]


def count(connection: Connection, span: Span, kind: str) -> int:
    """Return how many ends there are."""
    found: int = connection.execute(_of(select(func.count()), span).where(JOBS.c.kind == kind)).scalar_one()
    return found


def _of(query: Select[Any], span: Span) -> Select[Any]:
    ends = query.where(
        JOBS.c.ended_at >= span.since,
        JOBS.c.ended_at < span.until,
        JOBS.c.terminal_type == _RESULT,
        JOBS.c.subject.is_(None),
    )
    return ends if span.tenant is None else ends.where(JOBS.c.tenant == span.tenant)
