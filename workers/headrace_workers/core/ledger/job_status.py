"""The status of jobs: one by its id, several by a key, and how they stand, for HTTP."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, select

from headrace_schemas import DeadLetter
from headrace_schemas.job import derive_job_id
from headrace_schemas.topics import ABOUT_JOBS
from headrace_workers.core.ledger.accepted import was_refused
from headrace_workers.core.ledger.dead_letters import INGEST, letter_of
from headrace_workers.core.ledger.fair_queueing import CLOCK
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.ledger.outbox import SetAside, aside
from headrace_workers.core.sql.database import among, bindparam_of, clock, one_of
from headrace_workers.core.sql.statements import run
from headrace_workers.core.tables import ACCEPTED, CLAIMS, DEAD_LETTERS, IS_ACTIVE, JOBS, STEPS, TURNS

_NOBODY_SAID: Final = "default"  # the tenant of jobs that name none
_MOST_TENANTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class JobView:
    """A job with its steps, in the order in which they were made.

    A claimed step has the columns of its claim in addition to its own: `begun_at` (absent when it was assigned and
    nobody has begun it) and `worker`. `set_aside`: its events that Kafka refused.
    """

    job: Row[Any]
    steps: tuple[Row[Any], ...]
    now: int
    set_aside: tuple[SetAside, ...] = ()


def job(connection: Connection, job_id: str) -> JobView | None:
    """Return one job; None when the ledger does not know it."""
    row = connection.execute(select(JOBS).where(JOBS.c.id == job_id)).first()
    if row is None:
        return None
    steps = connection.execute(
        select(STEPS, CLAIMS.c.started_at.label("begun_at"), CLAIMS.c.worker)
        .outerjoin(CLAIMS, CLAIMS.c.id == STEPS.c.claim_id)
        .where(STEPS.c.job_id == job_id)
        .order_by(STEPS.c.ready_at, STEPS.c.stage)
    ).all()
    return JobView(row, tuple(steps), clock(connection), tuple(aside(connection, 100, job_id)))


def units_of(connection: Connection, job_id: str, limit: int = 100) -> list[Row[Any]]:
    """Return the units that follow the events of a job, oldest first: id, stage, endpoint, state, attempts, last
    reason.
    """
    query = (
        select(JOBS.c.id, STEPS.c.stage, JOBS.c.endpoint, STEPS.c.state, STEPS.c.attempts, STEPS.c.reason)
        .join(STEPS, STEPS.c.job_id == JOBS.c.id)
        .where(JOBS.c.subject == job_id)
        .order_by(JOBS.c.accepted_at, STEPS.c.stage, JOBS.c.endpoint)
    )
    return [*connection.execute(query.limit(limit))]


def jobs_of(connection: Connection, job_ids: Sequence[str]) -> dict[str, tuple[str, bytes]]:
    """Return kind and content of those of these jobs that are known."""
    query = select(JOBS.c.id, JOBS.c.kind, JOBS.c.payload).where(among(connection, JOBS.c.id, job_ids))
    return {row.id: (row.kind, row.payload) for row in connection.execute(query)}


def named(connection: Connection, name: str, tenant: str | None, limit: int) -> list[str]:
    """Return the ids of the jobs that have this idempotency key or correlation id, or that an event with this id
    brought, the newest first.

    Keys, and the ids of most events, are in no column: a job's id is made of them and its tenant. Without a tenant this
    searches `default` and the tenants that have had work lately.
    """
    tenants = [tenant] if tenant is not None else _tenants(connection)
    derived = [derive_job_id(text, name) for text in tenants]
    whose = [] if tenant is None else [JOBS.c.tenant == tenant]
    found: dict[str, int] = {}
    for which in (among(connection, JOBS.c.id, derived), JOBS.c.correlationid == name, JOBS.c.ce_id == name):
        query = select(JOBS.c.id, JOBS.c.accepted_at).where(which, *whose).order_by(JOBS.c.accepted_at.desc())
        found |= {row.id: row.accepted_at for row in connection.execute(query.limit(limit))}
    return sorted(found, key=lambda job_id: (-found[job_id], job_id))[:limit]


def _tenants(connection: Connection) -> list[str]:
    waiting = select(TURNS.c.tenant).where(TURNS.c.tenant != CLOCK).distinct()
    newest = select(JOBS.c.tenant).where(IS_ACTIVE).order_by(JOBS.c.accepted_at.desc())
    queries = (query.limit(_MOST_TENANTS) for query in (waiting, newest))
    names = {name for query in queries for name in connection.execute(query).scalars()}
    for feature in hooks():
        if feature.known_tenants is not None:
            names.update(feature.known_tenants(connection, _MOST_TENANTS))
    return sorted({_NOBODY_SAID, *names})


def terminals(connection: Connection, job_ids: list[str]) -> dict[str, tuple[str, bytes]]:
    """Return the terminal event (its type and JSON) of each of these jobs that has ended."""
    rows = connection.execute(
        select(JOBS.c.id, JOBS.c.terminal_type, JOBS.c.terminal).where(
            JOBS.c.id.in_(job_ids), JOBS.c.ended_at.is_not(None)
        )
    )
    return {row.id: (row.terminal_type, row.terminal) for row in rows}


@dataclass(frozen=True, slots=True)
class Looked:
    """Result of one look at jobs that clients wait for. `ended` has the terminal event (its type and JSON) of each job
    that has ended, and `refused` the dead letter of each job that admission refused. `known` has the jobs that the
    ledger has and that were not known before. `standings` has the full state of jobs that have ended, where a client
    wants all of it.
    """

    ended: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    refused: Mapping[str, DeadLetter] = field(default_factory=dict)
    standings: "Mapping[str, Standing]" = field(default_factory=dict)


class JobRow(NamedTuple):
    """A job of the ledger's. Times are in ms since 1970."""

    id: str
    tenant: str
    kind: str
    state: Any
    accepted_at: int
    ended_at: int | None
    terminal_type: str | None
    terminal: bytes | None

    @property
    def end(self) -> tuple[str, bytes] | None:
        """Return the event that ended it, if it has ended: its type and its JSON."""
        if self.terminal_type is None or self.terminal is None:
            return None
        return self.terminal_type, bytes(self.terminal)


class StepRow(NamedTuple):
    """A step of a job. Times are in ms since 1970."""

    job_id: str
    stage: str
    ordinal: int
    state: str
    attempts: int
    ready_at: int
    started_at: int | None
    ended_at: int | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """State of a job: its row in the ledger with its steps, or (`row` absent) only that it was admitted at a time (ms)
    or refused. `refused` is the dead letter of a record under this id that was refused.
    """

    tenant: str
    row: JobRow | None = None
    steps: tuple[StepRow, ...] = ()
    accepted_at: int | None = None
    refused: DeadLetter | None = None

    @property
    def is_held(self) -> bool:
        """Return True if a step of the job is held."""
        return any(step.state == "held" for step in self.steps)


def look(
    connection: Connection, known: Collection[str], unknown: Collection[str], whole: Collection[str] = ()
) -> Looked:
    """Look once for the ends of all these jobs: jobs that the ledger is known to have, and others. Return the full
    state of the jobs in `whole` that have ended.
    """
    dialect, wanted = connection.dialect.name, frozenset(whole)
    stand = _with_steps(connection, _jobs(dialect, over=True), [job_id for job_id in known if job_id in wanted])
    ended = {job_id: standing.row.end for job_id, standing in stand.items() if standing.row and standing.row.end}
    if rest := [job_id for job_id in known if job_id not in wanted]:
        rows = run(connection, _ended(dialect), {"wanted": rest})
        ended |= {job_id: (event_type, bytes(value)) for job_id, event_type, value in rows}
    if not unknown:
        return Looked(ended, standings=stand)
    query = select(JOBS.c.id, JOBS.c.ended_at, JOBS.c.terminal_type, JOBS.c.terminal)
    found = connection.execute(query.where(among(connection, JOBS.c.id, list(unknown)))).all()
    ended |= {row.id: (row.terminal_type, bytes(row.terminal)) for row in found if row.ended_at is not None}
    there = frozenset(row.id for row in found)
    refused = _refused(connection, [job_id for job_id in unknown if job_id not in there])
    late = [job_id for job_id in unknown if job_id in wanted and (job_id in ended or job_id in refused)]
    return Looked(ended, there, refused, stand | standings(connection, late))


def standings(connection: Connection, job_ids: Sequence[str]) -> dict[str, Standing]:
    """Return the state of each known job; unknown jobs are left out."""
    steps = _with_steps(connection, _jobs(connection.dialect.name, over=False), job_ids)
    rest = [job_id for job_id in job_ids if job_id not in steps]
    return steps | _not_taken_in(connection, rest) if rest else steps


def _with_steps(connection: Connection, jobs: Any, job_ids: Sequence[str]) -> dict[str, Standing]:
    """Return the jobs that the statement finds, with their steps."""
    if not job_ids:
        return {}
    rows = [JobRow._make(row) for row in run(connection, jobs, {"wanted": list(job_ids)})]
    steps: dict[str, list[StepRow]] = {row.id: [] for row in rows}
    if steps:
        found = run(connection, _steps(connection.dialect.name), {"wanted": list(steps)})
        for step in sorted(map(StepRow._make, found), key=_place):
            steps[step.job_id].append(step)
    return {row.id: Standing(row.tenant, row, tuple(steps[row.id]), row.accepted_at) for row in rows}


def _place(step: StepRow) -> tuple[int, bool, int, int, str]:
    """Order steps: one that has ended comes before the steps that followed from it, which may have ended with it."""
    return step.ordinal, step.ended_at is None, step.ended_at or 0, step.ready_at, step.stage


def _not_taken_in(connection: Connection, job_ids: list[str]) -> dict[str, Standing]:
    query = select(ACCEPTED.c.job_id, ACCEPTED.c.tenant, ACCEPTED.c.at).where(
        among(connection, ACCEPTED.c.job_id, job_ids), ACCEPTED.c.published, ~was_refused()
    )
    found = {row.job_id: Standing(row.tenant, accepted_at=row.at) for row in connection.execute(query)}
    letters = _refused(connection, [job_id for job_id in job_ids if job_id not in found])
    return found | {
        job_id: Standing(letter.tenant, refused=letter) for job_id, letter in letters.items() if letter.tenant
    }


def _refused(connection: Connection, job_ids: list[str]) -> dict[str, DeadLetter]:
    """Return the newest letter about a record under each of these ids, but none older than a new try under it."""
    if not job_ids:
        return {}
    later = (
        select(ACCEPTED.c.job_id)
        .where(ACCEPTED.c.job_id == DEAD_LETTERS.c.refers_to, ACCEPTED.c.at > DEAD_LETTERS.c.died_at)
        .exists()
    )
    query = (
        select(DEAD_LETTERS)
        .where(
            among(connection, DEAD_LETTERS.c.refers_to, job_ids),
            DEAD_LETTERS.c.stage == INGEST,
            DEAD_LETTERS.c.topic.not_in(ABOUT_JOBS),
            DEAD_LETTERS.c.replayed_at.is_(None),
            ~later,
        )
        .order_by(DEAD_LETTERS.c.died_at)
    )
    return {row.refers_to: letter_of(row) for row in connection.execute(query)}


@lru_cache
def _jobs(dialect: str, *, over: bool) -> Any:
    """Select jobs that are no units; with `over` only jobs that have ended."""
    wanted = bindparam_of(dialect, JOBS.c.id, name="wanted")
    query = select(*(JOBS.c[name] for name in JobRow._fields)).where(one_of(dialect, JOBS.c.id, wanted))
    query = query.where(JOBS.c.subject.is_(None))
    return query.where(JOBS.c.ended_at.is_not(None)) if over else query


@lru_cache
def _steps(dialect: str) -> Any:
    wanted = bindparam_of(dialect, STEPS.c.job_id, name="wanted")
    return select(*(STEPS.c[name] for name in StepRow._fields)).where(one_of(dialect, STEPS.c.job_id, wanted))


@lru_cache
def _ended(dialect: str) -> Any:
    wanted = bindparam_of(dialect, JOBS.c.id, name="wanted")
    return select(JOBS.c.id, JOBS.c.terminal_type, JOBS.c.terminal).where(
        one_of(dialect, JOBS.c.id, wanted), JOBS.c.ended_at.is_not(None)
    )
