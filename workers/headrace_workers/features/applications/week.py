"""The jobs of one version of an application that ended lately, without those of evaluations."""

from collections.abc import Mapping
from datetime import timedelta
from statistics import quantiles
from typing import Any, Final, NamedTuple

from pydantic_core import from_json
from sqlalchemy import select

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import among, clock, reading
from headrace_workers.core.tables import JOBS
from headrace_workers.features.applications.store import SHARED, tenants_with

MOST: Final = 1_000  # jobs
_PAGE: Final = 100  # rows in memory at a time
_HALF: Final = 0.5


class Week(NamedTuple):
    """The last jobs of a version. Times are in ms from acceptance to the end; `cost` is in millionths of the
    currency, of the calls whose price is known. `passed` of the `judged` jobs have a score of at least 0.5 by the
    metric.
    """

    jobs: int
    completed: int
    judged: int
    passed: int
    p50_ms: float | None
    p95_ms: float | None
    cost: int
    currency: str | None


def week_of(ledger: Ledger, scope: str, name: str, number: int, metric: str, span: timedelta) -> Week:
    """Return the figures of the newest jobs of a version that ended within `span`."""
    jobs = JOBS.c
    with reading(ledger.engine) as connection:
        since = clock(connection) - int(span.total_seconds() * 1000)
        # A tenant's own application hides the shared one, and its versions have numbers of their own.
        whose = jobs.tenant.notin_(tenants_with(name)) if scope == SHARED else jobs.tenant == scope
        newest = select(jobs.id).where(jobs.application == f"{name}@{number}", jobs.ended_at >= since, whose)
        ids = connection.execute(newest.order_by(jobs.ended_at.desc()).limit(MOST)).scalars().all()
        ends = []
        for start in range(0, len(ids), _PAGE):
            page = select(jobs.state, (jobs.ended_at - jobs.accepted_at).label("took"), jobs.sent, jobs.terminal)
            rows = connection.execute(page.where(among(connection, jobs.id, ids[start : start + _PAGE])))
            ends += [(row.state, row.took, *_read(row.terminal, metric)) for row in rows if not _is_test(row.sent)]
    scores = [score for _, _, score, _ in ends if score is not None]
    took = sorted(took for _, took, _, _ in ends)
    costs = [cost for *_, cost in ends if cost is not None]
    return Week(
        jobs=len(ends),
        completed=sum(state == "done" for state, *_ in ends),
        judged=len(scores),
        passed=sum(score >= _HALF for score in scores),
        p50_ms=_percentile(took, 50),
        p95_ms=_percentile(took, 95),
        cost=sum(cost["amount"] for cost in costs),
        currency=next((cost["currency"] for cost in costs if cost.get("currency")), None),
    )


def _is_test(sent: bytes | None) -> bool:
    """Return True if a job, as it was sent, belongs to an evaluation."""
    return "evaluation" in ((from_json(sent) if sent else {}).get("metadata") or {})


def _read(terminal: bytes | None, metric: str) -> tuple[float | None, Mapping[str, Any] | None]:
    """Return a job's score by the metric, and its cost, from the event that ended it."""
    event = from_json(terminal) if terminal else {}
    scores = (event.get("judge") or {}).get("scores", ())
    by_name = {score.get("name") or score["criterion"]: score.get("value") for score in scores}
    return by_name.get(metric), event.get("cost")


def _percentile(values: list[int], percent: int) -> float | None:
    if len(values) < 2:
        return float(values[0]) if values else None
    return quantiles(values, n=100, method="inclusive")[percent - 1]
