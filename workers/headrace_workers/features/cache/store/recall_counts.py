"""Counts of the cache: look-ups, given answers, and kept answers. Reads all that the ledger knows of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from headrace_workers.core.tables import JOBS, STEPS
from headrace_workers.features.cache.tables import ENTRIES, SERVES

_STAGE = "recall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Counts of answers: given ones by tier, the savings, and kept ones by state."""

    served: Mapping[str, int] = field(default_factory=dict)  # by tier
    saved_tokens: int = 0
    saved_ms: float = 0.0
    entries: Mapping[str, int] = field(default_factory=dict)  # by state: pending, live, dead


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCounts:
    """All counts. `asked` counts the jobs with a step of recall that the ledger has not forgotten; `answered` the ones
    that were given an answer; `open` the ones that have not been looked up yet, or wait for another job.
    """

    asked: int
    answered: int
    open: int
    kept: Kept


def counts(connection: Connection, tenant: str | None = None, since_ms: int | None = None) -> CacheCounts:
    """Return, of one tenant or all, jobs accepted, answers given and answers that died since then, and all that
    lives or is being made.
    """
    given = select(SERVES.c.id).where(SERVES.c.job_id == STEPS.c.job_id).exists()
    query = (
        select(STEPS.c.state, given.label("given"), func.count(STEPS.c.job_id.distinct()).label("jobs"))
        .join(JOBS, JOBS.c.id == STEPS.c.job_id)
        .where(STEPS.c.stage == _STAGE, *_since(JOBS.c.tenant, tenant, JOBS.c.accepted_at, since_ms))
        .group_by(STEPS.c.state, given)
    )
    rows = connection.execute(query).all()
    return CacheCounts(
        asked=sum(row.jobs for row in rows),
        answered=sum(row.jobs for row in rows if row.given),
        open=sum(row.jobs for row in rows if row.state not in ("done", "dead", "cancelled")),
        kept=_sum(list(scopes(connection, tenant, since_ms).values())),
    )


def scopes(
    connection: Connection, tenant: str | None = None, since_ms: int | None = None
) -> dict[tuple[str, str], Kept]:
    """Return the same by (tenant, scope); answers that only the very same request is given have the empty scope."""
    served: dict[tuple[str, str], list[Any]] = {}
    for row in connection.execute(
        select(
            SERVES.c.tenant, SERVES.c.scope, SERVES.c.tier, func.count().label("times"),
            func.sum(SERVES.c.saved_tokens).label("tokens"), func.sum(SERVES.c.saved_ms).label("ms"),
        )
        .where(*_since(SERVES.c.tenant, tenant, SERVES.c.served_at, since_ms))
        .group_by(SERVES.c.tenant, SERVES.c.scope, SERVES.c.tier)
    ):  # fmt: skip
        served.setdefault((row.tenant, row.scope), []).append(row)
    kept: dict[tuple[str, str], dict[str, int]] = {}
    gone = [] if since_ms is None else [(ENTRIES.c.died_at.is_(None)) | (ENTRIES.c.died_at >= since_ms)]
    for entry in connection.execute(
        select(ENTRIES.c.tenant, ENTRIES.c.scope, ENTRIES.c.state, func.count().label("entries"))
        .where(*_since(ENTRIES.c.tenant, tenant), *gone)
        .group_by(ENTRIES.c.tenant, ENTRIES.c.scope, ENTRIES.c.state)
    ):
        kept.setdefault((entry.tenant, entry.scope), {})[entry.state] = entry.entries
    return {
        name: Kept(
            served={row.tier: row.times for row in served.get(name, ())},
            saved_tokens=sum(int(row.tokens) for row in served.get(name, ())),
            saved_ms=sum(float(row.ms) for row in served.get(name, ())),
            entries=kept.get(name, {}),
        )
        for name in sorted({*served, *kept})
    }


def _sum(parts: list[Kept]) -> Kept:
    tiers, states = Counter[str](), Counter[str]()
    for part in parts:
        tiers.update(part.served)
        states.update(part.entries)
    return Kept(
        served=dict(tiers),
        saved_tokens=sum(part.saved_tokens for part in parts),
        saved_ms=sum(part.saved_ms for part in parts),
        entries=dict(states),
    )


def _since(whose: Any, tenant: str | None, at: Any = None, since_ms: int | None = None) -> list[ColumnElement[bool]]:
    conditions = [] if tenant is None else [whose == tenant]
    return conditions if since_ms is None or at is None else [*conditions, at >= since_ms]
