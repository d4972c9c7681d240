"""Requests for responses, kept as long as they may be retrieved: the body, by the job that answers it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select

from headrace_workers.core.sql.database import among, insert, now_ms, writing
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.core.tables import JOBS
from headrace_workers.features.generation.tables import RESPONSES

_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """A response that was asked for: the body as JSON, and when (ms since 1970, by the database's clock)."""

    body: bytes
    asked_at: int


def find(connection: Connection, tenant: str, job_id: str) -> ResponseRequest | None:
    """Return the request of this job, or None where it is not known."""
    mine = (RESPONSES.c.job_id == job_id) & (RESPONSES.c.tenant == tenant)
    row: Any = connection.execute(select(RESPONSES.c.body, RESPONSES.c.asked_at).where(mine)).one_or_none()
    return None if row is None else ResponseRequest(bytes(row.body), row.asked_at)


class Responses(LedgerStore):
    """The responses of one ledger; each method is one transaction. Thread-safe. Unavailable when it does not answer.

    Another tenant's are not there.
    """

    def keep(self, tenant: str, job_id: str, body: bytes) -> ResponseRequest | None:
        """Keep the request of this job, unless one is kept already, and return the one that is kept.

        Return None when the job belongs to another tenant.
        """
        with writing(self._engine) as tx:
            row = {"job_id": job_id, "tenant": tenant, "body": body, "asked_at": now_ms()}
            tx.execute(insert(tx, RESPONSES).values(row).on_conflict_do_nothing(index_elements=["job_id"]))
            return find(tx, tenant, job_id)

    find = reads(find)

    def drop(self, tenant: str, job_id: str) -> bool:
        """Forget the request of a job, and return True if it was kept. The job itself goes on."""
        mine = (RESPONSES.c.job_id == job_id) & (RESPONSES.c.tenant == tenant)
        with writing(self._engine) as tx:
            return bool(tx.execute(delete(RESPONSES).where(mine)).rowcount)


def forget(connection: Connection, older_than_ms: int) -> bool:
    """Forget a bounded number of requests whose jobs the ledger has forgotten; return True if there are more."""
    job = select(JOBS.c.id).where(JOBS.c.id == RESPONSES.c.job_id).exists()
    old = RESPONSES.c.asked_at < now_ms() - older_than_ms
    query = select(RESPONSES.c.job_id).where(old, ~job).limit(_AT_ONCE)
    ids = list(connection.execute(query.with_for_update(skip_locked=True)).scalars())
    if ids:
        connection.execute(delete(RESPONSES).where(among(connection, RESPONSES.c.job_id, ids)))
    return len(ids) == _AT_ONCE
