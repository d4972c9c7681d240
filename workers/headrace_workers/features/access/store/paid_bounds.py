"""Bounds of lost calls that are counted as used, because their jobs ended before anybody knew what the calls cost.

If that becomes known later, the tenant and the key get the rest back in the quotas that counted the bound. Rows are
written, and taken, under the locks of the tenant's quotas.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Connection, String, and_, bindparam, delete, exists, literal_column, select

from headrace_workers.core.sql.database import among, clock, insert
from headrace_workers.core.tables import LOST_CALLS
from headrace_workers.features.access.tables import BOUNDS_PAID

_IS_BOUND: Final = LOST_CALLS.c.told_at.is_not(None) & LOST_CALLS.c.amount.is_(None)
_TO_NOTE: Final = select(
    LOST_CALLS.c.job_id,
    LOST_CALLS.c.claim_id,
    bindparam("whose", type_=String),
    bindparam("sent_by", type_=String),
    bindparam("now", type_=BigInteger),
).where(LOST_CALLS.c.job_id == bindparam("job"), _IS_BOUND)


class PaidBound(NamedTuple):
    """A row of the table."""

    job_id: str
    claim_id: int
    tenant: str
    key_id: str
    paid_at: int


def has_bounds(job_id: Any) -> Any:
    """Return the condition that the end of a job told bounds of calls whose costs are not known."""
    return exists(literal_column("1")).where(LOST_CALLS.c.job_id == job_id, _IS_BOUND)


def note(connection: Connection, payers: Iterable[tuple[str, str, str]]) -> None:
    """Note who pays the bounds of these jobs, which end now: pairs of job, tenant and key. Bounds that an earlier end
    told are there already.
    """
    now = clock(connection)
    rows = [{"job": job_id, "whose": tenant, "sent_by": key_id, "now": now} for job_id, tenant, key_id in payers]
    statement = insert(connection, BOUNDS_PAID).from_select(list(PaidBound._fields), _TO_NOTE)
    connection.execute(statement.on_conflict_do_nothing(), rows)


def take(connection: Connection, calls: Collection[tuple[str, int]]) -> list[PaidBound]:
    """Return who paid the bounds of these calls (job and claim), and forget it."""
    found = []
    for job_id, claim_id in sorted(calls):
        this = and_(BOUNDS_PAID.c.job_id == job_id, BOUNDS_PAID.c.claim_id == claim_id)
        columns = (BOUNDS_PAID.c[name] for name in PaidBound._fields)
        found += [
            PaidBound._make(row) for row in connection.execute(delete(BOUNDS_PAID).where(this).returning(*columns))
        ]
    return found


def forget(connection: Connection, job_ids: Sequence[str]) -> None:
    """Delete the rows of jobs that are about to be deleted."""
    connection.execute(delete(BOUNDS_PAID).where(among(connection, BOUNDS_PAID.c.job_id, job_ids)))
