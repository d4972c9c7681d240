"""The situation of a whole deployment, read from its ledger with a bound on the rows of each statement."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select, text, tuple_

from headrace_workers.core.ledger.counts import HeldCount, all_incidents, held_steps
from headrace_workers.core.ledger.incidents import Incident
from headrace_workers.core.sql.database import among, clock
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.core.tables import (
    CLAIMS,
    DEAD_LETTERS,
    IS_ACTIVE,
    IS_PARKED,
    IS_READY,
    IS_WAITING,
    JOBS,
    OUTBOX,
    STEPS,
)
from headrace_workers.features.generation.store.breakers import Calls, Health, all_of, calls_of

MOST: Final = 10_000  # rows that are counted; more are "10,000+"
HOUR_MS: Final = 3_600_000
_MINUTE_MS: Final = 60_000
_MOST_PLACES: Final = 200  # queues and lanes with work
MOST_ENDS: Final = 250  # jobs from which rates are taken
_MOST_CLAIMS: Final = 2_000
_CALL_MINUTES: Final = 5


@dataclass(slots=True)
class StageLine:
    """The work of a stage in one queue and lane. `ready` steps may begin; `later` ones wait for their time or for other
    jobs; `begun` ones are in the hands of workers. `rate` is in steps a minute.
    """

    stage: str
    queue: str
    lane: int
    ready: int = 0
    later: int = 0
    begun: int = 0
    oldest_ms: int | None = None
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Holding:
    """The steps of a stage that a worker has in its hands; `worker` is absent where nobody has begun them yet. `for_ms`
    is the time since the first of them was begun or handed out, `silent_ms` the time since the last sign of life.
    """

    worker: str | None
    stage: str
    queue: str
    steps: int
    for_ms: int
    silent_ms: int


@dataclass(frozen=True, slots=True)
class Hour:
    """The jobs that ended in an hour, by how they ended. `more`: only the first ones of them were counted."""

    ended: Mapping[str, int]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The whole at one moment. Counts above `MOST` mean more than that. `per_minute` counts jobs that ended."""

    now: int
    active: int
    oldest_ms: int
    per_minute: float
    outbox: int
    set_aside: int
    dead_letters: int
    lines: tuple[StageLine, ...]
    held_by: tuple[HeldCount, ...]
    holdings: tuple[Holding, ...]
    incidents: tuple[Incident, ...]
    models: Mapping[str, Health]
    calls: Mapping[str, Calls]
    hours: Mapping[int, Hour] = field(default_factory=dict)

    @property
    def held(self) -> int:
        """Return how many steps are held."""
        return sum(steps.held for steps in self.held_by)


def situation(connection: Connection, hours: Collection[int] = ()) -> Situation:
    """Return the situation, with the jobs that ended in these hours (since 1970)."""
    now = clock(connection)
    active = select(JOBS.c.accepted_at).where(IS_ACTIVE).order_by(JOBS.c.accepted_at)
    oldest = connection.execute(active.limit(1)).scalar()
    lines: dict[tuple[str, str, int], StageLine] = {}
    _count_ready(connection, lines, now)
    _count_later(connection, lines)
    holdings = _holdings(connection, lines, now)
    per_minute = _rates(connection, lines, now)
    letters = select(DEAD_LETTERS.c.replayed_at).order_by(DEAD_LETTERS.c.died_at.desc()).limit(MOST + 1).subquery()
    dead = select(func.count()).select_from(letters).where(letters.c.replayed_at.is_(None))
    return Situation(
        now=now,
        active=_count(connection, active),
        oldest_ms=now - oldest if oldest else 0,
        per_minute=per_minute,
        outbox=_count(connection, select(OUTBOX.c.id)),
        set_aside=_count(connection, select(OUTBOX.c.id).where(text("outbox.set_aside_at IS NOT NULL"))),
        dead_letters=int(connection.execute(dead).scalar_one()),
        lines=tuple(lines[place] for place in sorted(lines)),
        held_by=held_steps(connection, MOST + 1),
        holdings=holdings,
        incidents=all_incidents(connection),
        models=all_of(connection),
        calls=calls_of(connection, _CALL_MINUTES),
        hours={hour: _hour(connection, hour) for hour in hours},
    )


def _count(connection: Connection, query: Select[Any]) -> int:
    rows = query.limit(MOST + 1).subquery()
    return int(connection.execute(select(func.count()).select_from(rows)).scalar_one())


def _line(lines: dict[tuple[str, str, int], StageLine], row: Any) -> StageLine:
    return lines.setdefault((row.stage, row.queue, row.lane), StageLine(row.stage, row.queue, row.lane))


def _count_ready(connection: Connection, lines: dict[tuple[str, str, int], StageLine], now: int) -> None:
    """Count the steps that may begin, queue by queue: a long queue hides no other."""
    place = tuple_(STEPS.c.queue, STEPS.c.lane)
    places = select(STEPS.c.queue, STEPS.c.lane).where(IS_READY).order_by(STEPS.c.queue, STEPS.c.lane).limit(1)
    row = connection.execute(places).first()
    for _ in range(_MOST_PLACES):
        if row is None:
            return
        theirs = (IS_READY, STEPS.c.queue == row.queue, STEPS.c.lane == row.lane)
        steps = select(STEPS.c.stage, STEPS.c.ready_at).where(*theirs).limit(MOST + 1).subquery()
        counts = select(steps.c.stage, func.count(), func.min(steps.c.ready_at)).group_by(steps.c.stage)
        for stage, count, oldest in connection.execute(counts):
            key = (stage, row.queue, row.lane)
            lines[key] = StageLine(*key, ready=count, oldest_ms=max(0, now - oldest))
        row = connection.execute(places.where(place > (row.queue, row.lane))).first()


def _count_later(connection: Connection, lines: dict[tuple[str, str, int], StageLine]) -> None:
    columns = (STEPS.c.stage, STEPS.c.queue, STEPS.c.lane)
    for state in (IS_WAITING, IS_PARKED):
        steps = select(*columns).where(state).order_by(STEPS.c.ready_at).limit(MOST + 1).subquery()
        names = (steps.c.stage, steps.c.queue, steps.c.lane)
        for row in connection.execute(select(*names, func.count().label("steps")).group_by(*names)):
            _line(lines, row).later += row.steps


def _holdings(connection: Connection, lines: dict[tuple[str, str, int], StageLine], now: int) -> tuple[Holding, ...]:
    """Return what is handed out, and count it."""
    claims = select(CLAIMS).order_by(CLAIMS.c.lease_until).limit(_MOST_CLAIMS).subquery()
    names = (claims.c.worker, claims.c.stage, claims.c.queue, claims.c.lane)
    begun = func.min(func.coalesce(claims.c.started_at, claims.c.claimed_at)).label("begun")
    sign = func.max(func.coalesce(claims.c.renewed_at, 0)).label("sign")
    query = select(*names, func.sum(claims.c.size).label("steps"), begun, sign).group_by(*names).order_by(*names)
    holdings = []
    for row in connection.execute(query):
        _line(lines, row).begun += int(row.steps)
        sign_at = max(row.sign, row.begun)
        holdings.append(
            Holding(row.worker, row.stage, row.queue, int(row.steps), max(0, now - row.begun), max(0, now - sign_at))
        )
    return tuple(sorted(holdings, key=lambda held: (held.worker is None, held.worker or "", held.stage)))


def _rates(connection: Connection, lines: dict[tuple[str, str, int], StageLine], now: int) -> float:
    """Note how many steps of each stage were done a minute, and return how many jobs ended.

    These are the steps of the jobs that ended last: steps have no index by their ends.
    """
    ended = select(JOBS.c.id, JOBS.c.subject, JOBS.c.ended_at).where(JOBS.c.ended_at > now - _MINUTE_MS)
    rows = connection.execute(ended.order_by(JOBS.c.ended_at.desc()).limit(MOST_ENDS)).all()
    since = rows[-1].ended_at if len(rows) == MOST_ENDS else now - _MINUTE_MS
    factor = _MINUTE_MS / max(1, now - since)
    names = (STEPS.c.stage, STEPS.c.queue, STEPS.c.lane)
    steps = select(*names, func.count().label("steps")).where(
        among(connection, STEPS.c.job_id, [row.id for row in rows]), STEPS.c.state == "done", STEPS.c.ended_at >= since
    )
    for row in connection.execute(steps.group_by(*names)) if rows else ():
        _line(lines, row).rate += row.steps * factor
    return sum(row.subject is None for row in rows) * factor


def _hour(connection: Connection, hour: int) -> Hour:
    within = (JOBS.c.ended_at >= hour * HOUR_MS, JOBS.c.ended_at < (hour + 1) * HOUR_MS)
    query = select(JOBS.c.state, JOBS.c.subject).where(*within).order_by(JOBS.c.ended_at).limit(MOST + 1)
    ends = query.subquery()
    units = func.count(ends.c.subject).label("units")
    rows = connection.execute(select(ends.c.state, func.count().label("ends"), units).group_by(ends.c.state)).all()
    return Hour({row.state: row.ends - row.units for row in rows}, sum(row.ends for row in rows) > MOST)


class Situations(LedgerStore):
    """The situation of one ledger. Thread-safe. Unavailable when it does not answer."""

    look = reads(situation)
