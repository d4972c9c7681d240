"""Jobs that gateways admitted, until ingest has taken them in from Kafka.

A row says that Kafka has the job (`published`), or that somebody is about to send it: then nobody else may send another
job under its id. Every gateway finds a job here before ingest has taken it in.
"""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property, lru_cache
from typing import Any, Final

from sqlalchemy import BigInteger, Connection, Engine, bindparam, delete, exists, literal, select, update

from headrace_schemas.topics import ABOUT_JOBS
from headrace_workers.core.ledger.dead_letters import INGEST
from headrace_workers.core.ledger.ingest import RecordContent, repeated
from headrace_workers.core.sql.database import (
    among,
    bindparam_of,
    clock,
    connect,
    insert,
    insert_many,
    lose_together,
    many,
    now_ms,
    one_of,
    reading,
    writing,
)
from headrace_workers.core.sql.statements import SingleStatements, rows_of, run
from headrace_workers.core.tables import ACCEPTED, DEAD_LETTERS, JOBS, PROBE_SLOTS, PROBES

_AT_ONCE = 500
_LEAST_MS = 60_000  # a row stays at least so long
_UNSENT_MS = 3_600_000  # and one of which Kafka has confirmed nothing, as long


class Reserved(Enum):
    """Permission of a sender to send a job, or the reason why it may not."""

    SEND = auto()  # nobody has this job yet, as far as is known
    KNOWN = auto()  # it was admitted before, with the same content: there is nothing to send
    OTHER = auto()  # something else has this id, and that holds


@dataclass(frozen=True, slots=True)
class AdmissionRequest:
    """A job that is to be admitted. `value` is it as JSON; `digest` the SHA-256 of what it says, in hex."""

    job_id: str
    tenant: str
    value: bytes
    digest: str


def reserve(connection: Connection, requests: Sequence[AdmissionRequest]) -> list[Reserved]:
    """Return what the sender of each job may do, in order."""
    first = {request.job_id: request for request in reversed(requests)}
    known = _known(connection, list(first.values()))
    free = [first[job_id] for job_id in sorted(first) if job_id not in known]
    made = _insert(connection, free)
    there = [request for request in free if request.job_id not in made]
    answers = known | dict.fromkeys(made, Reserved.SEND) | _reserve_again(connection, there)
    # Of two for one id in one call, the second says the same or something else.
    return [
        answers[request.job_id] if request.digest == first[request.job_id].digest else Reserved.OTHER
        for request in requests
    ]


def confirm(where: Connection | SingleStatements, requests: Sequence[AdmissionRequest], age: int = 0) -> None:
    """Note that Kafka has these jobs, at least one, or that no client knows their ids before Kafka has them: requests
    for a job find it before ingest has taken it in. Their senders have had them for `age` ms at most: a refusal since
    then is a refusal of this job. One statement: each request waits for it.
    """
    dialect = where.dialect.name
    unique = {request.job_id: request for request in requests}
    rows = [
        {"job_id": request.job_id, "tenant": request.tenant, "digest": request.digest, "published": True}
        for _, request in sorted(unique.items())
    ]
    inserted = many(dialect, rows)
    for each in [inserted] if dialect == "postgresql" else inserted:
        rows_of(where, _published(dialect), each | {"age": age})


def withdraw(where: Connection | SingleStatements, job_ids: Collection[str]) -> None:
    """Forget these jobs, which Kafka did not confirm. If ingest takes one in after all, requests find it then."""
    rows_of(where, _withdrawn(where.dialect.name), {"ids": sorted(job_ids)})


def forget(connection: Connection, older_than_ms: int) -> bool:
    """Delete a bounded number of rows that the ledger has taken in or refused since, or that are older than this.
    Return True if there are more.
    """
    taken_in = exists().where(JOBS.c.id == ACCEPTED.c.job_id) | was_refused()
    unsent = ~ACCEPTED.c.published & (ACCEPTED.c.at < now_ms() - _UNSENT_MS)
    old = (ACCEPTED.c.at < now_ms() - _LEAST_MS) & (taken_in | unsent)
    query = select(ACCEPTED.c.job_id).where(old | (ACCEPTED.c.at < now_ms() - older_than_ms)).limit(_AT_ONCE)
    ids = list(connection.execute(query.with_for_update(skip_locked=True)).scalars())
    if ids:
        connection.execute(delete(ACCEPTED).where(among(connection, ACCEPTED.c.job_id, ids)))
    return len(ids) == _AT_ONCE


def was_refused() -> Any:
    """Return the condition that what this row of `accepted` tells of was refused since."""
    letter = DEAD_LETTERS.alias("letter")
    return exists().where(
        letter.c.refers_to == ACCEPTED.c.job_id,
        letter.c.stage == INGEST,
        letter.c.topic.not_in(ABOUT_JOBS),
        letter.c.died_at >= ACCEPTED.c.at,
    )


def _known(connection: Connection, requests: Sequence[AdmissionRequest]) -> dict[str, Reserved]:
    """Return what the senders of those jobs may do that the ledger has."""
    query = select(JOBS.c.id).where(among(connection, JOBS.c.id, [request.job_id for request in requests]))
    there = set(connection.execute(query).scalars())
    known = [request for request in requests if request.job_id in there]
    same = repeated(connection, [RecordContent(request.job_id, request.tenant, request.value) for request in known])
    return {request.job_id: Reserved.KNOWN if n in same else Reserved.OTHER for n, request in enumerate(known)}


def _reserve_again(connection: Connection, requests: Sequence[AdmissionRequest]) -> dict[str, Reserved]:
    """Return what the senders of jobs that have a row may do: another sender's row, or one from an earlier try."""
    if not requests:
        return {}
    query = (
        select(ACCEPTED.c.job_id, ACCEPTED.c.digest, ACCEPTED.c.published, was_refused().label("refused"))
        .where(among(connection, ACCEPTED.c.job_id, [request.job_id for request in requests]))
        .order_by(ACCEPTED.c.job_id)
    )
    rows = {row.job_id: row for row in connection.execute(query.with_for_update())}
    answers: dict[str, Reserved] = {}
    anew: list[AdmissionRequest] = []
    for request in requests:
        row = rows.get(request.job_id)
        if row is None or row.refused:  # a corrected one under the key of one that was refused is a new chance
            answers[request.job_id] = Reserved.SEND
            anew.append(request)
        elif row.digest != request.digest:
            answers[request.job_id] = Reserved.OTHER
        else:
            answers[request.job_id] = Reserved.KNOWN if row.published else Reserved.SEND
    if anew:
        connection.execute(
            update(ACCEPTED)
            .where(ACCEPTED.c.job_id == bindparam("job"))
            .values(digest=bindparam("says"), at=now_ms(), published=False),
            [{"job": request.job_id, "says": request.digest} for request in anew],
        )
    return answers


def _insert(connection: Connection, requests: Collection[AdmissionRequest]) -> set[str]:
    """Write a row for each job that has none, since it is about to be sent; return the ids of those jobs."""
    if not requests:
        return set()
    dialect, now = connection.dialect.name, clock(connection)
    rows = [
        {"job_id": request.job_id, "tenant": request.tenant, "digest": request.digest, "at": now}
        for request in requests
    ]
    return {row[0] for row in run(connection, _new_rows(dialect), many(dialect, rows))}


@lru_cache
def _new_rows(dialect: str) -> Any:
    columns = [ACCEPTED.c[name] for name in ("job_id", "tenant", "digest", "at")]
    statement = insert_many(dialect, ACCEPTED, columns, {"published": literal(False)})
    return statement.on_conflict_do_nothing(index_elements=["job_id"]).returning(ACCEPTED.c.job_id)


@lru_cache
def _withdrawn(dialect: str) -> Any:
    return delete(ACCEPTED).where(
        one_of(dialect, ACCEPTED.c.job_id, bindparam_of(dialect, ACCEPTED.c.job_id, name="ids"))
    )


@lru_cache
def _published(dialect: str) -> Any:
    columns = [ACCEPTED.c[name] for name in ("job_id", "tenant", "digest", "published")]
    at = now_ms() - bindparam("age", type_=BigInteger)
    statement = insert_many(dialect, ACCEPTED, columns, {"at": at})
    return statement.on_conflict_do_update(index_elements=["job_id"], set_={"published": statement.excluded.published})


_NOBODY: Final = ""  # the id of no job
_OF_NOBODY: Final = delete(ACCEPTED).where(
    ACCEPTED.c.job_id == _NOBODY, exists().where(JOBS.c.id == ACCEPTED.c.job_id) | was_refused()
)
_PROBE_SECONDS: Final = 2  # that a probe's statement has; PostgreSQL's answer has as many more to reach us


class Probe:
    """Writer to one row of the ledger. Belongs to one thread.

    If its connection is lost, `engine` opens its own anew, too: idle ones may lead to a server that is gone.
    """

    def __init__(self, engine: Engine) -> None:
        self._of = engine
        self._slot = secrets.randbelow(PROBE_SLOTS)

    def write(self) -> None:
        """Write to this process's row, and delete the job of nobody. Raise `Unwritable` where the ledger takes no
        writes, `Unavailable` where it does not answer or a table that takes jobs is locked.
        """
        values = {"slot": self._slot, "at": now_ms()}
        # PostgreSQL needs no transaction around each statement.
        begin = reading if self._engine.dialect.name == "postgresql" else writing
        with begin(self._engine) as tx:
            made = insert(tx, PROBES).values(values)
            tx.execute(made.on_conflict_do_update(index_elements=["slot"], set_={"at": made.excluded.at}))
            tx.execute(_OF_NOBODY)

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    @cached_property
    def _engine(self) -> Engine:
        """Return an engine of the same database with a shorter time limit: no work depends on it."""
        limits = {"timeout": str(_PROBE_SECONDS)}
        if self._of.dialect.name == "postgresql":
            limits["connect_timeout"] = str(_PROBE_SECONDS)
        engine = connect(self._of.url.update_query_dict(limits))
        lose_together(engine, self._of)
        return engine
