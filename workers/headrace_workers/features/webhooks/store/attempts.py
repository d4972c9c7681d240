"""Attempts of deliveries: what is to be sent to an endpoint now, and what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, func, select, update

from headrace_workers.core.sql.database import bindparam_of, now_ms, one_of
from headrace_workers.core.sql.single_statements import SingleStatements, rows_of
from headrace_workers.features.webhooks.tables import DELIVERIES, ENDPOINTS


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery that is due."""

    id: str
    type: str
    url: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Tried:
    """The outcome of an attempt: see `Reply`."""

    id: str
    ms: int
    status: int | None
    error: str | None
    answer: str


def due(where: Connection | SingleStatements, ids: Sequence[str]) -> tuple[dict[str, Due], int]:
    """Return the known deliveries among these whose endpoint exists; and the time (ms)."""
    rows = rows_of(where, _due(where.dialect.name), {"ids": list(ids)})
    now = rows[0][-1] if rows else rows_of(where, _CLOCK, {})[0][0]
    return {row[0]: Due(*row[:-1]) for row in rows}, now


_CLOCK: Final = select(now_ms())


@lru_cache
def _due(dialect: str) -> Select[Any]:
    return (
        select(
            DELIVERIES.c.id,
            DELIVERIES.c.type,
            func.coalesce(DELIVERIES.c.url, ENDPOINTS.c.url).label("url"),
            DELIVERIES.c.body,
            now_ms(),
        )
        .join(ENDPOINTS, ENDPOINTS.c.id == DELIVERIES.c.endpoint_id)
        .where(one_of(dialect, DELIVERIES.c.id, bindparam_of(dialect, DELIVERIES.c.id, name="ids")))
    )


_NOTE: Final = (
    update(DELIVERIES)
    .where(DELIVERIES.c.id == bindparam("delivery"))
    .values(
        attempts=DELIVERIES.c.attempts + 1,
        attempted_at=now_ms(),
        status=bindparam("said"),
        ms=bindparam("took"),
        error=bindparam("why"),
        answer=bindparam("words"),
    )
)


def note(connection: Connection, tries: Sequence[Tried]) -> None:
    """Write what came of these attempts."""
    if tries:
        rows = [
            {"delivery": each.id, "said": each.status, "took": each.ms, "why": each.error, "words": each.answer}
            for each in sorted(tries, key=lambda each: each.id)
        ]
        connection.execute(_NOTE, rows)
