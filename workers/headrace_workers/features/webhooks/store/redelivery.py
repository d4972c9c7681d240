"""Sending deliveries again, each as it was and under the id that it had."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, update

from headrace_workers.core.sql.database import among, clock
from headrace_workers.core.tables import DEAD_LETTERS, DROPPED, JOBS, STEPS
from headrace_workers.features.webhooks.store.deliveries import PATIENCE_MS
from headrace_workers.features.webhooks.store.delivery_views import Range
from headrace_workers.features.webhooks.tables import DELIVERIES, ENDPOINTS

_AT_ONCE: Final = 500
TWICE_MS: Final = 600_000  # what was sent again within this time is not once more


@dataclass(frozen=True, slots=True)
class Preview:
    """A preview of a replay: failed or dropped deliveries, delivered ones, and those left out since they were sent
    again a moment ago.
    """

    failed: int
    delivered: int
    just_now: int


def preview(connection: Connection, which: Range, *, delivered: bool) -> Preview:
    """Return what `replay` would send again: without `delivered` only what failed or was dropped."""
    what = case((_twice(clock(connection)), "just_now"), else_=JOBS.c.state).label("what")
    query = (
        select(what, func.count())
        .select_from(DELIVERIES.join(JOBS, JOBS.c.id == DELIVERIES.c.id))
        .where(which.condition(), JOBS.c.state.in_(_replayable(delivered=True)), _has_receiver())
        .group_by("what")
    )
    counts: dict[str, int] = dict(iter(connection.execute(query)))
    return Preview(
        failed=counts.get("dead", 0) + counts.get(DROPPED, 0),
        delivered=counts.get("done", 0) if delivered else 0,
        just_now=counts.get("just_now", 0),
    )


def replay(connection: Connection, which: Range, *, delivered: bool) -> int:
    """Send a bounded number of these again, the oldest first, each under the id that it had, and return how many.

    Call it until it finds none.

    What was sent again a moment ago is not sent once more, whatever became of it: a double click sends nothing twice.
    """
    now = clock(connection)
    state = JOBS.c.state.in_(_replayable(delivered=delivered))
    query = (
        select(JOBS.c.id)
        .join(DELIVERIES, DELIVERIES.c.id == JOBS.c.id)
        .where(which.condition(), state, _has_receiver(), ~_twice(now))
        .order_by(DELIVERIES.c.created_at, JOBS.c.id)
        .limit(_AT_ONCE)
    )
    # Whoever was quicker with all that we saw has changed that alone: there may be more.
    while ids := list(connection.execute(query).scalars()):
        # Lock order: jobs in the order of their ids, steps.
        locked = select(JOBS.c.id).where(among(connection, JOBS.c.id, ids), state).order_by(JOBS.c.id)
        free = list(connection.execute(locked.with_for_update()).scalars())
        marked = (
            update(DELIVERIES)
            .where(among(connection, DELIVERIES.c.id, free), ~_twice(now))
            .values(replayed_at=now)
            .returning(DELIVERIES.c.id)
        )
        if chosen := list(connection.execute(marked).scalars()):
            _revive(connection, chosen, now)
            return len(chosen)
    return 0


def _replayable(*, delivered: bool) -> list[str]:
    failed = ["dead", DROPPED]
    return [*failed, "done"] if delivered else failed


def _has_receiver() -> ColumnElement[bool]:
    """Exclude deliveries whose endpoint is gone: they would be dropped again."""
    known = select(ENDPOINTS.c.id).where(ENDPOINTS.c.id == DELIVERIES.c.endpoint_id).exists()
    return or_(JOBS.c.state != DROPPED, known)


def _twice(now: int) -> ColumnElement[bool]:
    return and_(DELIVERIES.c.replayed_at.is_not(None), DELIVERIES.c.replayed_at > now - TWICE_MS)


def _revive(connection: Connection, ids: Sequence[str], now: int) -> None:
    connection.execute(
        update(JOBS)
        .where(among(connection, JOBS.c.id, ids))
        .values(state="active", ended_at=None, accepted_at=now, replays=JOBS.c.replays + 1)
    )
    connection.execute(
        update(STEPS)
        .where(among(connection, STEPS.c.job_id, ids))
        .values(state="ready", attempts=0, crashes=0, ready_at=now, ended_at=None, reason=None, claim_id=None,
                deadline=now + PATIENCE_MS)
    )  # fmt: skip
    connection.execute(
        update(DEAD_LETTERS)
        .where(among(connection, DEAD_LETTERS.c.job_id, ids), DEAD_LETTERS.c.replayed_at.is_(None))
        .values(replayed_at=now)
    )
