"""Counts of the whole ledger, for people, for backpressure and for benches; and its load, which admission asks for."""

from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy import Connection, case, func, select, text

from headrace_workers.core.ledger.change_feed import FollowerState, follower_positions
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.ledger.incidents import Incident, killed_again_and_again, open_incidents
from headrace_workers.core.ledger.positions import incidents as ingest_incidents
from headrace_workers.core.sql.database import clock
from headrace_workers.core.tables import (
    CLAIMS,
    DEAD_LETTERS,
    IS_ACTIVE,
    IS_HELD,
    IS_READY,
    JOBS,
    LIVE,
    NEVER,
    OUTBOX,
    STEPS,
)


@dataclass(frozen=True, slots=True)
class QueueCount:
    """Steps of one queue and lane that wait (ready or delayed) and that are claimed."""

    queue: str
    stage: str
    lane: int
    waiting: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class HeldCount:
    """Steps of a stage that are held for a person, or until something works again; and why one of them is."""

    stage: str
    needs_person: bool
    held: int
    oldest_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole. Rates count jobs that ended in the last minute; ages are in ms."""

    active: int
    done: int
    dead: int
    cancelled: int
    dead_letters: int
    outbox: int
    claims: int
    oldest_ms: int
    ended_last_minute: int
    queues: tuple[QueueCount, ...]
    held: int = 0  # steps that wait for a person, or until something works
    held_by: tuple[HeldCount, ...] = ()
    set_aside: int = 0  # of the outbox: what Kafka refused
    incidents: tuple[Incident, ...] = ()
    followers: tuple[FollowerState, ...] = ()


def active_jobs(connection: Connection) -> int:
    """Return how many jobs have not ended, for backpressure."""
    return int(connection.execute(select(func.count()).select_from(JOBS).where(IS_ACTIVE)).scalar_one())


def ended_jobs(connection: Connection) -> tuple[int, int]:
    """Return how many jobs have ended, and how many of them with a result."""
    done = func.count().filter(JOBS.c.state == "done")
    jobs = JOBS.c.ended_at.is_not(None) & JOBS.c.subject.is_(None)
    ended, answered = connection.execute(select(func.count(), done).select_from(JOBS).where(jobs)).one()
    return int(ended), int(answered)


def outbox_size(connection: Connection) -> int:
    """Return how many events wait to be published."""
    return int(connection.execute(select(func.count()).select_from(OUTBOX)).scalar_one())


def overview(connection: Connection) -> Overview:
    """Return everything that `headrace status` shows."""
    states: dict[str, int] = {
        row[0]: row[1]
        for row in connection.execute(
            select(JOBS.c.state, func.count()).where(JOBS.c.subject.is_(None)).group_by(JOBS.c.state)
        )
    }
    now = clock(connection)
    oldest = connection.execute(select(func.min(JOBS.c.accepted_at)).where(IS_ACTIVE)).scalar()
    recent = connection.execute(
        select(func.count()).select_from(JOBS).where(JOBS.c.ended_at > now - 60_000, JOBS.c.subject.is_(None))
    ).scalar_one()
    letters = connection.execute(
        select(func.count()).select_from(DEAD_LETTERS).where(DEAD_LETTERS.c.replayed_at.is_(None))
    ).scalar_one()
    held = held_steps(connection)
    return Overview(
        active=states.get("active", 0),
        done=states.get("done", 0),
        dead=states.get("dead", 0),
        cancelled=states.get("cancelled", 0),
        dead_letters=letters,
        outbox=outbox_size(connection),
        claims=connection.execute(select(func.count()).select_from(CLAIMS)).scalar_one(),
        oldest_ms=now - oldest if oldest else 0,
        ended_last_minute=recent,
        queues=_queues(connection),
        held=sum(each.held for each in held),
        held_by=held,
        set_aside=connection.execute(
            select(func.count()).select_from(OUTBOX).where(text("outbox.set_aside_at IS NOT NULL"))
        ).scalar_one(),
        incidents=all_incidents(connection),
        followers=tuple(follower_positions(connection)),
    )


def all_incidents(connection: Connection) -> tuple[Incident, ...]:
    """Return the incidents of processes and of features."""
    return (
        *ingest_incidents(connection),
        *open_incidents(connection),
        *killed_again_and_again(connection),
        *(incident for feature in hooks() if feature.incidents for incident in feature.incidents(connection)),
    )


def held_steps(connection: Connection, most: int | None = None) -> tuple[HeldCount, ...]:
    """Return the steps that are held, by stage and by what they wait for. Read at most so many of them."""
    columns = (STEPS.c.stage, STEPS.c.ready_at, STEPS.c.held_at, STEPS.c.reason)
    steps = select(*columns).where(IS_HELD).order_by(STEPS.c.ready_at).limit(most).subquery()
    needs_person = case((steps.c.ready_at >= NEVER, 1), else_=0).label("needs_person")
    query = (
        select(
            steps.c.stage,
            needs_person,
            func.count().label("held"),
            func.min(steps.c.held_at).label("since"),
            func.min(steps.c.reason).label("reason"),
        )
        .group_by(steps.c.stage, needs_person)
        .order_by(steps.c.stage, needs_person)
    )
    now = clock(connection)
    return tuple(
        HeldCount(row.stage, bool(row.needs_person), row.held, now - (row.since or now), row.reason or "")
        for row in connection.execute(query)
    )


def _queues(connection: Connection) -> tuple[QueueCount, ...]:
    rows = connection.execute(
        select(STEPS.c.queue, STEPS.c.stage, STEPS.c.lane, STEPS.c.state, func.count().label("steps"))
        .where(STEPS.c.state.in_(LIVE))
        .group_by(STEPS.c.queue, STEPS.c.stage, STEPS.c.lane, STEPS.c.state)
    ).all()
    found: dict[tuple[str, str, int], list[int]] = {}
    for row in rows:
        waiting, in_flight = found.setdefault((row.queue, row.stage, row.lane), [0, 0])
        found[row.queue, row.stage, row.lane] = (
            [waiting, in_flight + row.steps] if row.state == "leased" else [waiting + row.steps, in_flight]
        )
    return tuple(QueueCount(*key, *value) for key, value in sorted(found.items()))


QueueLane = tuple[str, int]  # a queue and a lane


@dataclass(frozen=True, slots=True)
class Pressure:
    """Jobs that have not ended, and for how long (ms) the step that is next in each place has been ready."""

    active: int
    ages: dict[QueueLane, int] = field(default_factory=dict)


def pressure(connection: Connection, places: Collection[QueueLane]) -> Pressure:
    """Return the load of these places, without those where nothing is ready."""
    now, ages = clock(connection), {}
    order = (STEPS.c.rank, STEPS.c.due, STEPS.c.turn, STEPS.c.job_id)
    for queue, lane in places:
        query = select(STEPS.c.ready_at).where(IS_READY, STEPS.c.queue == queue, STEPS.c.lane == lane)
        head = connection.execute(query.order_by(*order).limit(1)).scalar()
        if head is not None:
            ages[queue, lane] = max(0, now - head)
    return Pressure(active_jobs(connection), ages)
