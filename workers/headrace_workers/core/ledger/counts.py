"""Counts of the whole ledger, for people, for metrics, for backpressure and for benches; and its load, which admission
asks for.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sqlalchemy import Connection, case, func, literal_column, select, text

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
    IS_PARKED,
    IS_READY,
    IS_WAITING,
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
    held = held_steps(connection)
    return Overview(
        active=states.get("active", 0),
        done=states.get("done", 0),
        dead=states.get("dead", 0),
        cancelled=states.get("cancelled", 0),
        dead_letters=unreplayed_dead_letters(connection),
        outbox=outbox_size(connection),
        claims=connection.execute(select(func.count()).select_from(CLAIMS)).scalar_one(),
        oldest_ms=now - oldest if oldest else 0,
        ended_last_minute=recent,
        queues=_queues(connection),
        held=sum(count.held for count in held),
        held_by=held,
        set_aside=set_aside_records(connection),
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
_HORIZONS: Final = tuple(15_000 * 2**power for power in range(16))  # ms from now, to 5.7 days


class ReadyWork(NamedTuple):
    """Steps of one queue and lane that are ready, and that are due at about the same time. `tokens` is their rough
    cost. `ready_at` is since when the oldest is ready, and `due` the earliest time at which one is due, or expires (ms
    since 1970; NEVER: at no time).
    """

    queue: str
    lane: int
    steps: int
    tokens: int
    ready_at: int
    due: int


def ready_work(connection: Connection) -> list[ReadyWork]:
    """Return all steps that are ready, by queue, lane and about when they are due: a few rows for each queue.

    A batch's line is due at the end of the batch's window, when it expires.
    """
    now = clock(connection)
    due = case((STEPS.c.due < STEPS.c.deadline, STEPS.c.due), else_=STEPS.c.deadline)
    # Written into the statement, since both databases take a bound parameter for another expression in GROUP BY.
    horizon = case(
        *((due <= literal_column(str(now + ms)), literal_column(str(number))) for number, ms in enumerate(_HORIZONS)),
        (due < literal_column(str(NEVER)), literal_column(str(len(_HORIZONS)))),
        else_=literal_column("-1"),
    )
    query = (
        select(
            STEPS.c.queue,
            STEPS.c.lane,
            func.count().label("steps"),
            func.sum(STEPS.c.tokens).label("tokens"),
            func.min(STEPS.c.ready_at).label("ready_at"),
            func.min(due).label("due"),
        )
        .where(IS_READY)
        .group_by(STEPS.c.queue, STEPS.c.lane, horizon)
    )
    return [ReadyWork(queue, lane, int(steps), int(tokens), ready_at, due) for queue, lane, steps, tokens, ready_at, due
            in connection.execute(query)]  # fmt: skip


def delayed_steps(connection: Connection) -> dict[str, Counter[QueueLane]]:
    """Return how many steps of each queue and lane wait for their next attempt, are parked, and are leased."""
    places, leased = (STEPS.c.queue, STEPS.c.lane), (CLAIMS.c.queue, CLAIMS.c.lane)
    queries = {
        "waiting": select(*places, func.count()).where(IS_WAITING).group_by(*places),
        "parked": select(*places, func.count()).where(IS_PARKED).group_by(*places),
        "leased": select(*leased, func.sum(CLAIMS.c.size)).group_by(*leased),
    }
    return {
        state: Counter({(queue, lane): int(steps) for queue, lane, steps in connection.execute(query)})
        for state, query in queries.items()
    }


def ends_between(connection: Connection, after: int, until: int) -> Counter[tuple[str, ...]]:
    """Return how many jobs ended after a time and until another (ms), by their state and kind."""
    ended = JOBS.c.ended_at > after, JOBS.c.ended_at <= until, JOBS.c.subject.is_(None)
    query = select(JOBS.c.state, JOBS.c.kind, func.count()).where(*ended).group_by(JOBS.c.state, JOBS.c.kind)
    return Counter({(state, kind): jobs for state, kind, jobs in connection.execute(query)})


class WorkDone(NamedTuple):
    """Steps of a queue that ended with their jobs: their rough cost in tokens, and the seconds that workers ran them.
    Steps that ran together count their seconds once.
    """

    tokens: int
    seconds: float


def work_done_between(connection: Connection, after: int, until: int, most: int) -> dict[str, WorkDone]:
    """Return the work of jobs that ended after a time and until another (ms), by queue: of the last `most` jobs."""
    last = (
        select(JOBS.c.id)
        .where(JOBS.c.ended_at > after, JOBS.c.ended_at <= until)
        .order_by(JOBS.c.ended_at.desc())
        .limit(most)
    )
    groups = (
        select(
            STEPS.c.queue,
            func.sum(STEPS.c.tokens).label("tokens"),
            (func.max(STEPS.c.ended_at) - STEPS.c.started_at).label("ms"),
        )
        .where(STEPS.c.job_id.in_(last), STEPS.c.state == "done", STEPS.c.started_at.is_not(None))
        .group_by(STEPS.c.queue, STEPS.c.started_at)
        .subquery()
    )
    query = select(groups.c.queue, func.sum(groups.c.tokens), func.sum(groups.c.ms)).group_by(groups.c.queue)
    return {queue: WorkDone(int(tokens), float(ms) / 1000) for queue, tokens, ms in connection.execute(query)}


def busy_workers(connection: Connection) -> dict[str, int]:
    """Return how many workers run steps of each queue."""
    query = select(CLAIMS.c.queue, func.count(CLAIMS.c.worker.distinct())).where(CLAIMS.c.started_at.is_not(None))
    return {queue: int(workers) for queue, workers in connection.execute(query.group_by(CLAIMS.c.queue))}


def unreplayed_dead_letters(connection: Connection) -> int:
    """Return how many dead letters nobody has replayed."""
    letters = select(func.count()).select_from(DEAD_LETTERS).where(DEAD_LETTERS.c.replayed_at.is_(None))
    return int(connection.execute(letters).scalar_one())


def set_aside_records(connection: Connection) -> int:
    """Return how many records of the outbox Kafka refused."""
    aside = select(func.count()).select_from(OUTBOX).where(text("outbox.set_aside_at IS NOT NULL"))
    return int(connection.execute(aside).scalar_one())


def oldest_in_outbox(connection: Connection) -> str | None:
    """Return the headers (JSON) of the oldest event that waits to be published, without those that Kafka refused."""
    first = select(OUTBOX.c.headers).where(OUTBOX.c.set_aside_at.is_(None)).order_by(OUTBOX.c.id).limit(1)
    return connection.execute(first).scalar()


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
