"""Use and cost of tenants by day: tables, sums, and their queries."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final, Literal

from pydantic import BaseModel, Field
from sqlalchemy import BigInteger, Column, Connection, Integer, String, Table, func, select, update

from headrace_schemas.events import made_in
from headrace_workers.core.fields import copied
from headrace_workers.core.ledger.accounting import FinishedJob, KnownCost, accounted_until
from headrace_workers.core.sql.database import insert
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.core.tables import METADATA

# What tenants have used, by the day on which jobs ended (days since 1970, UTC).
USAGE: Final = Table(
    "usage_days",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("model", String(64), primary_key=True),  # "" where no model answered
    Column("application", String(96), primary_key=True),  # with its version; "" where the job named none
    Column("jobs", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
)

# By the day on which jobs ended (days since 1970, UTC). Money is in micro-units.
SPEND_DAYS: Final = Table(
    "spend_days",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("application", String(96), primary_key=True),  # with its version; "" where the job named none
    Column("currency", String(3), primary_key=True),  # "" where no price was known
    Column("calls", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("unknown_calls", BigInteger, nullable=False),
    Column("bound", BigInteger, nullable=False),  # the part of the amount that is the most that calls may have cost
)


DAY_MS: Final = 86_400_000
_FIRST_DAY: Final = date(1970, 1, 1)
_USAGE_SUMS = ("jobs", "prompt_tokens", "completion_tokens")


class DayShape(BaseModel):
    """Usage of the jobs that ended on a day (UTC). `model` is null where none answered, as for evaluations."""

    day: date = Field(description="The day, UTC.")
    kind: str = Field(description="The kind of job.")
    model: str | None = Field(description="The model that answered, if one did.")
    application: str | None = Field(description="The application with its version, such as ticket-triage@3, if any.")
    jobs: int = Field(description="Jobs that ended.")
    prompt_tokens: int = Field(description="Tokens read.")
    completion_tokens: int = Field(description="Tokens written.")


def used(connection: Connection, tenant: str, first: date, last: date) -> tuple[list[DayShape], int]:
    """Return what a tenant used from one day to another (UTC), and until when (ms) it is counted."""
    query = (
        select(USAGE.c.day, USAGE.c.kind, USAGE.c.model, USAGE.c.application, *(USAGE.c[name] for name in _USAGE_SUMS))
        .where(USAGE.c.tenant == tenant, USAGE.c.day.between(_number(first), _number(last)))
        .order_by(USAGE.c.day, USAGE.c.kind, USAGE.c.model, USAGE.c.application)
    )
    until = accounted_until(connection)
    rows = [
        copied(DayShape, row, day=_day(row.day), model=row.model or None, application=row.application or None)
        for row in connection.execute(query)
    ]
    return rows, until


def tokens_by_model(connection: Connection) -> list[tuple[str, int, int]]:
    """Return the tokens read and written of all days and tenants, by the model that answered."""
    sums = func.sum(USAGE.c.prompt_tokens), func.sum(USAGE.c.completion_tokens)
    query = select(USAGE.c.model, *sums).where(USAGE.c.model != "").group_by(USAGE.c.model).order_by(USAGE.c.model)
    return [(model, int(read), int(written)) for model, read, written in connection.execute(query)]


def tenants_with_usage(connection: Connection, limit: int) -> list[str]:
    """Return so many tenants at most that have used something."""
    return list(connection.execute(select(USAGE.c.tenant).distinct().limit(limit)).scalars())


class Usage(LedgerStore):
    """The usage of the tenants of one ledger. Thread-safe. Methods raise Unavailable if it does not answer."""

    of_tenant = reads(used)


def count_usage(connection: Connection, jobs: Sequence[FinishedJob]) -> None:
    """Add what these jobs used, which have ended, to the sums of their days."""
    sums: dict[tuple[str, int, str, str, str], Counter[str]] = {}
    for job in jobs:
        kind, model, prompt, completion = _read(job.result)
        place = sums.setdefault((job.tenant, job.ended_at // DAY_MS, kind, model, job.application or ""), Counter())
        place.update(jobs=1, prompt_tokens=prompt, completion_tokens=completion)
    keys = ("tenant", "day", "kind", "model", "application")
    statement = insert(connection, USAGE)
    statement = statement.on_conflict_do_update(
        index_elements=list(keys), set_={name: USAGE.c[name] + statement.excluded[name] for name in _USAGE_SUMS}
    )
    connection.execute(
        statement,
        [dict(zip(keys, key, strict=True)) | {name: sums[key][name] for name in _USAGE_SUMS} for key in sorted(sums)],
    )


def _read(result: Mapping[str, Any]) -> tuple[str, str, int, int]:
    """Return kind, model, and tokens read and written, of a result."""
    part = made_in(result)
    usage = part.get("usage") or {}
    return (
        str(result.get("kind", "")),
        str(part.get("model", "")),
        int(usage.get("prompt_tokens", 0)),
        int(usage.get("completion_tokens", 0)),
    )


By = Literal["tenant", "model", "application", "day"]
_SPENDING_KEY: Final = ("tenant", "day", "model", "application", "currency")
_SPENDING_SUMS: Final = ("calls", "amount", "unknown_calls", "bound")


class CostRow(BaseModel):
    """Cost of models' calls, in millionths of the currency. `unknown_calls` are those whose price is not known:
    `amount` says nothing of them. `bound` is the part of the amount that is the most that calls may have cost, because
    nobody knows what they used.
    """

    tenant: str | None = None
    day: date | None = None
    model: str | None = None
    application: str | None = None
    calls: int
    amount: int
    currency: str | None
    unknown_calls: int
    bound: int


def spent(
    connection: Connection, by: Sequence[By], first: date, last: date, tenant: str | None = None
) -> tuple[list[CostRow], int]:
    """Return what was spent from one day to another (UTC), of all tenants or of one, and until when (ms) it is
    counted.
    """
    groups = [SPEND_DAYS.c[name] for name in (*by, "currency")]
    sums = [func.sum(SPEND_DAYS.c[name]).label(name) for name in _SPENDING_SUMS]
    query = (
        select(*groups, *sums)
        .where(SPEND_DAYS.c.day.between(_number(first), _number(last)))
        .group_by(*groups)
        .order_by(*groups)
    )
    if tenant is not None:
        query = query.where(SPEND_DAYS.c.tenant == tenant)
    rows = [
        copied(
            CostRow,
            row,
            day=_day(row.day) if "day" in by else None,
            application=getattr(row, "application", None) or None,
            currency=row.currency or None,
        )
        for row in connection.execute(query)
    ]
    return rows, accounted_until(connection)


def known_cost_by_model(connection: Connection) -> list[tuple[str, str, int]]:
    """Return model, currency and cost (micro-units) of all days and tenants, without the most that calls may have cost
    whose cost is not known yet: it becomes less, and this sum never does.
    """
    key = SPEND_DAYS.c.model, SPEND_DAYS.c.currency
    known = func.sum(SPEND_DAYS.c.amount - SPEND_DAYS.c.bound)
    query = select(*key, known).where(SPEND_DAYS.c.currency != "").group_by(*key).order_by(*key)
    return [(model, currency, int(amount)) for model, currency, amount in connection.execute(query)]


class Spending(LedgerStore):
    """The spending of the tenants of one ledger. Thread-safe. Methods raise Unavailable if it does not answer."""

    spent = reads(spent)


def count_spending(connection: Connection, jobs: Sequence[FinishedJob]) -> None:
    """Add what these jobs cost, which have ended, to the sums of their days."""
    sums: dict[tuple[str, int, str, str, str], Counter[str]] = {}
    for job in jobs:
        cost = job.result.get("cost") or {}
        for model in cost.get("models", ()):
            known = model.get("unknown_calls", 0) < model["calls"]
            currency = (cost.get("currency") or "") if known else ""
            key = (job.tenant, job.ended_at // DAY_MS, model["model"], job.application or "", currency)
            sums.setdefault(key, Counter()).update({name: model.get(name, 0) for name in _SPENDING_SUMS})
    if not sums:
        return
    statement = insert(connection, SPEND_DAYS)
    statement = statement.on_conflict_do_update(
        index_elements=list(_SPENDING_KEY),
        set_={name: SPEND_DAYS.c[name] + statement.excluded[name] for name in _SPENDING_SUMS},
    )
    rows = [
        dict(zip(_SPENDING_KEY, key, strict=True)) | {name: sums[key][name] for name in _SPENDING_SUMS}
        for key in sorted(sums)
    ]
    connection.execute(statement, rows)


def correct_spending(connection: Connection, costs: Sequence[KnownCost]) -> None:
    """Replace the bounds of calls, whose jobs are counted, by what the calls cost."""
    for cost in costs:
        if cost.is_counted and cost.told_at is not None:
            key = (cost.tenant, cost.told_at // DAY_MS, cost.model, cost.application or "", cost.currency)
            where = [SPEND_DAYS.c[name] == value for name, value in zip(_SPENDING_KEY, key, strict=True)]
            less = SPEND_DAYS.c.amount - cost.bound + cost.amount
            connection.execute(
                update(SPEND_DAYS).where(*where).values(amount=less, bound=SPEND_DAYS.c.bound - cost.bound)
            )


def _number(day: date) -> int:
    return (day - _FIRST_DAY).days


def _day(number: int) -> date:
    return _FIRST_DAY + timedelta(days=number)
