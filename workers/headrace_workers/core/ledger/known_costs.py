"""Costs of lost calls that became known after all: their worker was only slow, and has the answer. The answer is thrown
away, since another attempt owns the job, or the job was cancelled; but the true cost takes the place of the bound.

Before the job's end it is on the receipt. A receipt that was published stays as it is, and says how much of it is a
bound; what is spent of budgets and what is accounted for are corrected. Lock order: jobs, the time of the accounting
(as a replay does), lost calls, and then what features keep. A second report finds nothing to change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, delete, select, update

from headrace_workers.core.ledger import lost_calls
from headrace_workers.core.ledger.accounting import lock_time
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.ledger.lost_calls import LostCall
from headrace_workers.core.sql.database import among
from headrace_workers.core.tables import JOBS, LOST_CALLS

_CALL: Final = (LOST_CALLS.c.job_id == bindparam("job")) & (LOST_CALLS.c.claim_id == bindparam("claim"))
_KNOWN: Final = update(LOST_CALLS).where(_CALL).values(amount=bindparam("cost"))
_GONE: Final = delete(LOST_CALLS).where(_CALL)


@dataclass(frozen=True, slots=True)
class KnownCost:
    """A call that was charged with a bound, and cost an `amount`, in micro-units of a currency. `told_at` (ms) is when
    an end of its job told the bound; None while the job goes on. It `is_counted` if that end is accounted for.
    """

    job_id: str
    claim_id: int
    tenant: str
    model: str
    currency: str
    bound: int
    amount: int
    told_at: int | None = None
    is_counted: bool = False


def learn(connection: Connection, claim_id: int, paid: Mapping[str, int]) -> list[KnownCost]:
    """Replace the bounds of the calls that were lost with this claim, one a job, by what they cost; return them. Jobs
    whose calls were not lost, or whose costs are known, are passed over.
    """
    found = {call.job_id for call in _lost(connection, claim_id, sorted(paid))}
    if not found:
        return []
    columns = (JOBS.c.id, JOBS.c.tenant, JOBS.c.ended_at)
    query = select(*columns).where(among(connection, JOBS.c.id, sorted(found))).order_by(JOBS.c.id)
    jobs = {row.id: row for row in connection.execute(query.with_for_update())}
    calls = _lost(connection, claim_id, sorted(jobs))  # now nobody else ends these jobs, or learns of them
    until = lock_time(connection) if any(call.told_at is not None for call in calls) else 0
    known = []
    for call in calls:
        job = jobs[call.job_id]
        is_last = call.told_at == job.ended_at  # another end has been accounted for: the job was replayed behind it
        is_counted = call.told_at is not None and (not is_last or call.told_at <= until)
        known.append(
            KnownCost(
                call.job_id, claim_id, job.tenant, call.model, call.currency or "", call.bound or 0,
                paid[call.job_id], call.told_at, is_counted,
            )
        )  # fmt: skip
    _write(connection, known)
    for feature in hooks() if known else ():
        feature.on_known_costs(connection, known)
    return known


def _lost(connection: Connection, claim_id: int, job_ids: Sequence[str]) -> list[LostCall]:
    """Return the calls with a known price that were lost with this claim, and whose costs are not known."""
    query = select(*lost_calls.COLUMNS).where(
        among(connection, LOST_CALLS.c.job_id, job_ids), LOST_CALLS.c.claim_id == claim_id,
        LOST_CALLS.c.bound.is_not(None), LOST_CALLS.c.amount.is_(None),
    )  # fmt: skip
    return [LostCall._make(row) for row in connection.execute(query.order_by(LOST_CALLS.c.job_id))]


def _write(connection: Connection, known: Sequence[KnownCost]) -> None:
    over = [{"job": each.job_id, "claim": each.claim_id} for each in known if each.is_counted]
    open_ = [{"job": each.job_id, "claim": each.claim_id, "cost": each.amount} for each in known if not each.is_counted]
    if over:
        connection.execute(_GONE, over)
    if open_:
        connection.execute(_KNOWN, open_)
