"""Spending of tenants: what the calls of models cost, by day and model, counted once from the ends of jobs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection, func, select, update

from headrace_workers.core.ledger.accounting import FinishedJob, KnownCost, accounted_until
from headrace_workers.core.sql.database import insert
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.features.spend.store.usage import DAY_MS
from headrace_workers.features.spend.tables import SPEND_DAYS

By = Literal["tenant", "model", "day"]
_KEY: Final = ("tenant", "day", "model", "currency")
_SUMS: Final = ("calls", "amount", "unknown_calls", "bound")


@dataclass(frozen=True, slots=True)
class Spent:
    """Money spent, in micro-units of a currency ("" where no price was known). What it is not told by is None; `day` is
    in days since 1970, UTC. `bound` is the part of the amount that is the most that calls may have cost.
    """

    tenant: str | None
    day: int | None
    model: str | None
    currency: str
    calls: int
    amount: int
    unknown_calls: int
    bound: int


def spent(
    connection: Connection, by: Sequence[By], first: int, last: int, tenant: str | None = None
) -> tuple[list[Spent], int]:
    """Return what was spent from one day to another (days since 1970), of all tenants or of one, and until when (ms) it
    is counted.
    """
    groups = [SPEND_DAYS.c[name] for name in (*by, "currency")]
    sums = [func.sum(SPEND_DAYS.c[name]).label(name) for name in _SUMS]
    query = select(*groups, *sums).where(SPEND_DAYS.c.day.between(first, last)).group_by(*groups).order_by(*groups)
    if tenant is not None:
        query = query.where(SPEND_DAYS.c.tenant == tenant)
    found = [
        Spent(
            tenant=getattr(row, "tenant", None),
            day=getattr(row, "day", None),
            model=getattr(row, "model", None),
            currency=row.currency,
            calls=int(row.calls),
            amount=int(row.amount),
            unknown_calls=int(row.unknown_calls),
            bound=int(row.bound),
        )
        for row in connection.execute(query)
    ]
    return found, accounted_until(connection)


class Spending(LedgerStore):
    """The spending of the tenants of one ledger. Thread-safe. Methods raise Unavailable if it does not answer."""

    spent = reads(spent)


def count(connection: Connection, jobs: Sequence[FinishedJob]) -> None:
    """Add what these jobs cost, which have ended, to the sums of their days."""
    sums: dict[tuple[str, int, str, str], Counter[str]] = {}
    for job in jobs:
        cost = job.result.get("cost") or {}
        for each in cost.get("models", ()):
            known = each.get("unknown_calls", 0) < each["calls"]
            currency = (cost.get("currency") or "") if known else ""
            place = sums.setdefault((job.tenant, job.ended_at // DAY_MS, each["model"], currency), Counter())
            place.update({name: each.get(name, 0) for name in _SUMS})
    if not sums:
        return
    statement = insert(connection, SPEND_DAYS)
    statement = statement.on_conflict_do_update(
        index_elements=list(_KEY), set_={name: SPEND_DAYS.c[name] + statement.excluded[name] for name in _SUMS}
    )
    rows = [dict(zip(_KEY, key, strict=True)) | {name: sums[key][name] for name in _SUMS} for key in sorted(sums)]
    connection.execute(statement, rows)


def correct(connection: Connection, costs: Sequence[KnownCost]) -> None:
    """Replace the bounds of calls, whose jobs are counted, by what the calls cost."""
    for cost in costs:
        if cost.is_counted and cost.told_at is not None:
            key = (cost.tenant, cost.told_at // DAY_MS, cost.model, cost.currency)
            where = [SPEND_DAYS.c[name] == value for name, value in zip(_KEY, key, strict=True)]
            less = SPEND_DAYS.c.amount - cost.bound + cost.amount
            connection.execute(
                update(SPEND_DAYS).where(*where).values(amount=less, bound=SPEND_DAYS.c.bound - cost.bound)
            )
