"""Costs and budgets as everybody sees them, in tables and by `--json`. Pure."""

from datetime import date, timedelta
from typing import TYPE_CHECKING, Final, Self

from pydantic import BaseModel

from headrace_workers.cli.durations import Moment

if TYPE_CHECKING:  # they load the database
    from headrace_workers.features.access.store.quota_rows import Quota
    from headrace_workers.features.spend.store.spent_days import Spent

_FIRST_DAY: Final = date(1970, 1, 1)
_MICRO: Final = 1_000_000


class CostRow(BaseModel):
    """What calls of models cost, in millionths of the currency. `unknown_calls` are those whose price is not known:
    `amount` says nothing of them. `bound` is the part of the amount that is the most that calls may have cost, because
    nobody knows what they used.
    """

    tenant: str | None = None
    day: date | None = None
    model: str | None = None
    calls: int
    amount: int
    currency: str | None
    unknown_calls: int
    bound: int

    @classmethod
    def of(cls, spent: "Spent") -> Self:
        """Return the view of what was spent."""
        return cls(
            tenant=spent.tenant,
            day=None if spent.day is None else _FIRST_DAY + timedelta(days=spent.day),
            model=spent.model,
            calls=spent.calls,
            amount=spent.amount,
            currency=spent.currency or None,
            unknown_calls=spent.unknown_calls,
            bound=spent.bound,
        )


class Budget(BaseModel):
    """The money that a tenant, or one of its keys, may spend in a period, in millionths of the currency."""

    tenant: str
    key: str | None
    per: str
    most: int
    spent: int
    reserved: int
    left: int
    ends_at: Moment

    @classmethod
    def of(cls, quota: "Quota") -> Self:
        """Return the view of a budget."""
        return cls(
            tenant=quota.tenant,
            key=quota.key_id or None,
            per=quota.period,
            most=quota.most,
            spent=quota.used,
            reserved=quota.reserved,
            left=quota.left,
            ends_at=quota.ends,
        )


def money(amount: int) -> str:
    """Return an amount in micro-units as people read it: `1,234.56`, and more digits where there are more."""
    text = f"{amount / _MICRO:,.6f}"
    whole, _, parts = text.partition(".")
    return f"{whole}.{parts.rstrip('0').ljust(2, '0')}"
