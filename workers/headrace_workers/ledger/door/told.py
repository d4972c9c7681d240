"""What is told of jobs over HTTP: whether some have ended, and how one stands, for many askers in one look."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, select

from headrace_schemas import DeadLetter
from headrace_schemas.topics import ABOUT_JOBS
from headrace_workers.ledger.door.accepted import was_refused
from headrace_workers.ledger.sql.database import among, bindparam_of, one_of
from headrace_workers.ledger.sql.direct import run
from headrace_workers.ledger.tables.core import DEAD_LETTERS, JOBS, STEPS
from headrace_workers.ledger.tables.door import ACCEPTED
from headrace_workers.ledger.work.dead import letter_of
from headrace_workers.ledger.work.refusals import INGEST


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look at jobs that are waited for found.

    `ended` has the terminal event (its type and JSON) of each that has ended, `refused` the letter of each that was
    refused at the door, `known` those of the ones that nobody knew before which the ledger has. `standings` tells of
    those that have ended, and of which all is wanted, how they stand.
    """

    ended: Mapping[str, tuple[str, bytes]] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    refused: Mapping[str, DeadLetter] = field(default_factory=dict)
    standings: "Mapping[str, Standing]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job stands: its row in the ledger with its steps, or (`row` absent) only that it was let in at a time (ms)
    or refused. `refused` is the letter of a record under this id that came to nothing.
    """

    tenant: str
    row: Any = None
    steps: tuple[Row[Any], ...] = ()
    accepted_at: int | None = None
    refused: DeadLetter | None = None


def look(
    connection: Connection, known: Collection[str], unknown: Collection[str], whole: Collection[str] = ()
) -> Looked:
    """Look once for the ends of all these jobs: those of which it is known that the ledger has them, and others. Of
    those of `whole` that have ended it is told how they stand.
    """
    looked = _look(connection, known, unknown)
    over = [job_id for job_id in whole if job_id in looked.ended or job_id in looked.refused]
    return replace(looked, standings=standings(connection, over)) if over else looked


def _look(connection: Connection, known: Collection[str], unknown: Collection[str]) -> Looked:
    ended: dict[str, tuple[str, bytes]] = {}
    if known:
        rows = run(connection, _ended(connection.dialect.name), {"wanted": list(known)})
        ended = {job_id: (event_type, bytes(value)) for job_id, event_type, value in rows}
    if not unknown:
        return Looked(ended)
    query = select(JOBS.c.id, JOBS.c.ended_at, JOBS.c.terminal_type, JOBS.c.terminal)
    found = connection.execute(query.where(among(connection, JOBS.c.id, list(unknown)))).all()
    ended |= {row.id: (row.terminal_type, bytes(row.terminal)) for row in found if row.ended_at is not None}
    there = frozenset(row.id for row in found)
    return Looked(ended, there, _refused(connection, [job_id for job_id in unknown if job_id not in there]))


def standings(connection: Connection, job_ids: Sequence[str]) -> dict[str, Standing]:
    """How each of these jobs stands; those of which nothing is known are left out."""
    jobs = connection.execute(
        select(
            JOBS.c.id, JOBS.c.tenant, JOBS.c.kind, JOBS.c.state, JOBS.c.accepted_at, JOBS.c.ended_at,
            JOBS.c.terminal_type, JOBS.c.terminal,
        ).where(among(connection, JOBS.c.id, list(job_ids)), JOBS.c.subject.is_(None))
    ).all()  # fmt: skip
    steps: dict[str, list[Row[Any]]] = {row.id: [] for row in jobs}
    for step in _steps(connection, list(steps)):
        steps[step.job_id].append(step)
    found = {row.id: Standing(row.tenant, row, tuple(steps[row.id]), row.accepted_at) for row in jobs}
    rest = [job_id for job_id in job_ids if job_id not in found]
    return found | _not_taken_in(connection, rest) if rest else found


def _steps(connection: Connection, job_ids: list[str]) -> Sequence[Row[Any]]:
    if not job_ids:
        return ()
    columns = ("job_id", "stage", "ordinal", "state", "attempts", "ready_at", "started_at", "ended_at", "reason")
    query = select(*(STEPS.c[name] for name in columns)).where(among(connection, STEPS.c.job_id, job_ids))
    rows = connection.execute(query).all()
    return sorted(rows, key=_place)


def _place(step: Row[Any]) -> tuple[int, bool, int, int, str]:
    """One that has ended comes before what followed from it, which may have ended with it, and was ready later."""
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
    """The newest letter about a record under each of these ids, none that is older than a new try under the id."""
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
def _ended(dialect: str) -> Any:
    wanted = bindparam_of(dialect, JOBS.c.id, name="wanted")
    return select(JOBS.c.id, JOBS.c.terminal_type, JOBS.c.terminal).where(
        one_of(dialect, JOBS.c.id, wanted), JOBS.c.ended_at.is_not(None)
    )
