"""Jobs that gateways admitted, until ingest has taken them in from Kafka.

A row says that Kafka has the job (`published`), or may have it: then nobody may send other content under its id. It is
deleted when all its senders say that they sent nothing, and where nobody knows whether Kafka has the job, an hour after
it was last sent. Every gateway finds a published job here before ingest has taken it in.
"""

import secrets
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
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
    clock,
    connect,
    insert,
    insert_many,
    lose_together,
    many,
    now_ms,
    reading,
    writing,
)
from headrace_workers.core.sql.statements import SingleStatements, rows_of, run
from headrace_workers.core.tables import ACCEPTED, DEAD_LETTERS, JOBS, PROBE_SLOTS, PROBES

_AT_ONCE = 500
_LEAST_MS = 60_000  # a row stays at least so long
_UNSENT_MS = 3_600_000  # one of which Kafka has confirmed nothing, from when it was last sent


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
    senders = Counter(request.job_id for request in requests if request.digest == first[request.job_id].digest)
    made = _insert(connection, free, senders)
    there = [request for request in free if request.job_id not in made]
    answers = known | dict.fromkeys(made, Reserved.SEND) | _reserve_again(connection, there, senders)
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
    for item in [inserted] if dialect == "postgresql" else inserted:
        rows_of(where, _published(dialect), item | {"age": age})


def withdraw(connection: Connection, job_ids: Sequence[str]) -> None:
    """Note of each of these jobs, as often as it is named, that a sender sent nothing or that no client knows its id.
    Forget the jobs without another sender. If ingest takes one in after all, requests find it then.
    """
    connection.execute(
        update(ACCEPTED).where(ACCEPTED.c.job_id == bindparam("job")).values(senders=ACCEPTED.c.senders - 1),
        [{"job": job_id} for job_id in sorted(job_ids)],
    )
    connection.execute(
        delete(ACCEPTED).where(among(connection, ACCEPTED.c.job_id, sorted(set(job_ids))), ACCEPTED.c.senders <= 0)
    )


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


def _reserve_again(
    connection: Connection, requests: Sequence[AdmissionRequest], senders: Mapping[str, int]
) -> dict[str, Reserved]:
    """Return what the senders of jobs that have a row may do: another sender's row, or one from an earlier try."""
    if not requests:
        return {}
    query = (
        select(
            ACCEPTED.c.job_id,
            ACCEPTED.c.digest,
            ACCEPTED.c.published,
            ACCEPTED.c.senders,
            was_refused().label("refused"),
        )
        .where(among(connection, ACCEPTED.c.job_id, [request.job_id for request in requests]))
        .order_by(ACCEPTED.c.job_id)
    )
    rows = {row.job_id: row for row in connection.execute(query.with_for_update())}
    answers: dict[str, Reserved] = {}
    counts = dict(senders)
    for request in requests:
        row = rows.get(request.job_id)
        if row is None or row.refused:  # you may send a corrected job under the key of one that was refused
            answers[request.job_id] = Reserved.SEND
        elif row.digest != request.digest:
            answers[request.job_id] = Reserved.OTHER
        else:
            answers[request.job_id] = Reserved.KNOWN if row.published else Reserved.SEND
            counts[request.job_id] += row.senders
    if to_send := [request for request in requests if answers[request.job_id] is Reserved.SEND]:
        connection.execute(
            update(ACCEPTED)
            .where(ACCEPTED.c.job_id == bindparam("job"))
            .values(
                digest=bindparam("says"),
                at=now_ms(),
                published=False,
                senders=bindparam("sent_by"),
            ),
            [{"job": request.job_id, "says": request.digest, "sent_by": counts[request.job_id]} for request in to_send],
        )
    return answers


def _insert(connection: Connection, requests: Collection[AdmissionRequest], senders: Mapping[str, int]) -> set[str]:
    """Write a row for each job that has none, since it is about to be sent; return the ids of those jobs."""
    if not requests:
        return set()
    dialect, now = connection.dialect.name, clock(connection)
    rows = [
        {
            "job_id": request.job_id,
            "tenant": request.tenant,
            "digest": request.digest,
            "at": now,
            "senders": senders[request.job_id],
        }
        for request in requests
    ]
    return {row[0] for row in run(connection, _new_rows(dialect), many(dialect, rows))}


@lru_cache
def _new_rows(dialect: str) -> Any:
    columns = [ACCEPTED.c[name] for name in ("job_id", "tenant", "digest", "at", "senders")]
    statement = insert_many(dialect, ACCEPTED, columns, {"published": literal(False)})
    return statement.on_conflict_do_nothing(index_elements=["job_id"]).returning(ACCEPTED.c.job_id)


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
