"""Calls of models whose outcome nobody recorded: their worker was killed, hung or stopped, or lost its lease, or their
job was cancelled. Each has a row of its own and is charged with the most that it may have cost, since its provider may
bill it. If its worker comes back with the answer, it says what the call cost, and that takes the bound's place: see
`known_costs.py`.

A row lives until its cost is known and told, or its job is forgotten. The end of its job tells the cost as far as it is
known by then. All rows of an active job belong to the holder of the job's lock; rows whose cost became known after that
belong to the accounting, which deletes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import Connection, and_, delete, select, update

from headrace_schemas.events import Cost
from headrace_workers.core.ledger.charges import Charge, NextCall, call_in, context_of, lost, with_charges
from headrace_workers.core.ledger.outbox import Outgoing
from headrace_workers.core.pipeline.stage import model_of
from headrace_workers.core.sql.append import append
from headrace_workers.core.sql.database import among
from headrace_workers.core.tables import IS_KNOWN_LATE, LOST_CALLS

_UNTOLD: Final = LOST_CALLS.c.told_at.is_(None)
_KNOWN: Final = LOST_CALLS.c.amount.is_not(None)


class LostCall(NamedTuple):
    """A row of the table."""

    job_id: str
    claim_id: int
    model: str
    currency: str | None
    bound: int | None
    amount: int | None
    told_at: int | None

    @property
    def charge(self) -> Charge:
        """Return what it is charged with for now."""
        if self.amount is None:
            return Charge(self.model, self.bound, self.currency, is_bound=self.bound is not None)
        return Charge(self.model, self.amount, self.currency)


COLUMNS: Final = tuple(LOST_CALLS.c[name] for name in LostCall._fields)


@dataclass(frozen=True, slots=True)
class AskedModel:
    """A step whose worker was asking a model when it lost the step."""

    job_id: str
    claim_id: int
    queue: str
    context: bytes | None

    @property
    def call(self) -> NextCall:
        """Return the call that it was at."""
        return call_in(context_of(self.context), model_of(self.queue) or "")


def note(connection: Connection, asked: Sequence[AskedModel]) -> None:
    """Write the calls that were lost with these steps, whose jobs the caller has locked."""
    rows = []
    for each in asked:
        charge = lost(each.call)
        rows.append(
            LostCall(each.job_id, each.claim_id, charge.model, charge.currency, charge.amount, None, None)._asdict()
        )
    append(connection, LOST_CALLS, rows)


def is_untold(job_id: Any) -> Any:
    """Return the condition that a job has a lost call that no end of it has told."""
    return select(LOST_CALLS.c.job_id).where(LOST_CALLS.c.job_id == job_id, _UNTOLD).exists()


def spent(connection: Connection, job_ids: Sequence[str]) -> dict[str, int]:
    """Return what the lost calls of these jobs, which are active and locked, are charged with."""
    found: dict[str, int] = {}
    for call in _untold(connection, job_ids):
        found[call.job_id] = found.get(call.job_id, 0) + (call.charge.amount or 0)
    return found


def tell(connection: Connection, job_ids: Sequence[str], now: int) -> dict[str, list[Charge]]:
    """Return the charges of the lost calls of these jobs, which are locked and end now with events that tell them."""
    charges: dict[str, list[Charge]] = {}
    for call in _untold(connection, job_ids):
        charges.setdefault(call.job_id, []).append(call.charge)
    if charges:
        theirs = and_(among(connection, LOST_CALLS.c.job_id, sorted(charges)), _UNTOLD)
        connection.execute(delete(LOST_CALLS).where(theirs, _KNOWN))
        connection.execute(update(LOST_CALLS).where(theirs).values(told_at=now))
    return charges


def _untold(connection: Connection, job_ids: Sequence[str]) -> list[LostCall]:
    if not job_ids:
        return []
    query = select(*COLUMNS).where(among(connection, LOST_CALLS.c.job_id, job_ids), _UNTOLD)
    return [LostCall._make(row) for row in connection.execute(query.order_by(LOST_CALLS.c.job_id))]


def with_cost(value: bytes | None, charges: Sequence[Charge]) -> bytes:
    """Return the value of an event, or of what a unit's calls cost, with these charges added to its cost."""
    told: dict[str, Any] = {} if value is None else from_json(value)
    before = told.get("cost")
    cost = with_charges(None if before is None else Cost.model_validate(before), charges)
    return to_json({**told, "cost": cost.model_dump(mode="json", exclude_none=True)})


def told_with(record: Outgoing | None, charges: Sequence[Charge]) -> Outgoing | None:
    """Return the record of a job's end with these charges added to its cost."""
    return record if record is None or not charges else record._replace(value=with_cost(record.value, charges))


def take_known(connection: Connection, ended: Mapping[str, int]) -> dict[str, list[LostCall]]:
    """Return the lost calls of these jobs whose cost became known after the ends at these times (ms) had told a bound,
    and delete them: the caller, who does the accounting, counts what they cost.
    """
    query = select(*COLUMNS).where(IS_KNOWN_LATE)
    found: dict[str, list[LostCall]] = {}
    for call in map(LostCall._make, connection.execute(query)):
        if ended.get(call.job_id) == call.told_at:
            found.setdefault(call.job_id, []).append(call)
    if found:
        theirs = among(connection, LOST_CALLS.c.job_id, sorted(found))
        connection.execute(delete(LOST_CALLS).where(theirs, IS_KNOWN_LATE))
    return found


def forget(connection: Connection, job_ids: Sequence[str]) -> None:
    """Delete the lost calls of these jobs, which are about to be deleted."""
    connection.execute(delete(LOST_CALLS).where(among(connection, LOST_CALLS.c.job_id, job_ids)))
