"""What moderation said of the jobs that ended in a span of time."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from pydantic_core import from_json
from sqlalchemy import Connection, select

from headrace_workers.ledger.by_pages import by_pages
from headrace_workers.ledger.tables import JOBS

_RESULT: Final = "headrace.result.v1"


class Said(NamedTuple):
    """A verdict: when its job ended (ms), what was done, and of each category looked for whether it was objected to."""

    ended_at: int
    action: str
    categories: dict[str, bool]


def said(connection: Connection, since: int, until: int, tenant: str | None, limit: int) -> Iterator[Said]:
    """The verdicts of jobs that ended from `since` up to `until` (ms), the newest first, of so many jobs at most."""
    ends = select(JOBS.c.ended_at, JOBS.c.id, JOBS.c.terminal).where(
        JOBS.c.ended_at >= since, JOBS.c.ended_at < until, JOBS.c.terminal_type == _RESULT, JOBS.c.subject.is_(None)
    )
    if tenant is not None:
        ends = ends.where(JOBS.c.tenant == tenant)
    for job in by_pages(connection, ends, [JOBS.c.ended_at, JOBS.c.id], limit, newest=True):
        verdict = from_json(bytes(job.terminal)).get("moderation")
        if verdict is not None:
            yield Said(job.ended_at, verdict["action"], verdict.get("categories", {}))
