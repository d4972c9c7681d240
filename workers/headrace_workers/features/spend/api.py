"""Usage of a tenant, and what it cost, by day."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from headrace_workers.features.spend.feature import USAGE_READ
from headrace_workers.features.spend.store import DayShape, Spending, Usage
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import ANSWERS, Refusal, Why
from headrace_workers.http.services import Wired

router = APIRouter(tags=["usage"])

_FIRST_DAY: Final = date(1970, 1, 1)
_USUAL_DAYS: Final = 30
_MOST_DAYS: Final = 366


class CostShape(BaseModel):
    """Cost of a model's calls on a day (UTC), in millionths of the currency: judges and failed jobs included. `amount`
    says nothing of the `unknown_calls`, whose price is not known. `bound` is the part of it that is the most that calls
    may have cost, because nobody knows what they used.
    """

    day: date
    model: str
    application: str | None
    calls: int
    amount: int
    currency: str | None
    unknown_calls: int
    bound: int


class UsageShape(BaseModel):
    """Usage of a tenant. Jobs that ended after `counted_until` are not counted yet: some minutes at most."""

    object: Literal["list"] = "list"
    data: list[DayShape] = Field(description="A row for each day, kind, model and application.")
    costs: list[CostShape] = Field(description="A row for each day, model and application.")
    counted_until: datetime = Field(description="Jobs that ended later are not counted yet.")


@router.get("/v1/usage", responses=ANSWERS)
async def show(
    caller: Annotated[Caller, needs(USAGE_READ)],
    services: Wired,
    first: Annotated[
        date | None, Query(alias="from", description="The first day, UTC; by default 30 days before `to`.")
    ] = None,
    last: Annotated[date | None, Query(alias="to", description="The last day, UTC; by default today.")] = None,
) -> UsageShape:
    """Return the tokens of your tenant from the ledger, by day, kind and model, and what its calls of models cost.
    Answers from the cache count as tokens, and cost nothing.
    """
    last = last or datetime.now(UTC).date()
    first = first or max(_FIRST_DAY, last - timedelta(days=min(_USUAL_DAYS, (last - date.min).days)))
    if not 0 <= (last - first).days < _MOST_DAYS:
        raise Refusal(Why.INVALID, f"from and to: must be days in order, {_MOST_DAYS} at most", param="from")
    rows, until = await services.ask(services.ledger.of(Usage).of_tenant, caller.tenant, first, last)
    spent, _ = await services.ask(
        services.ledger.of(Spending).spent, ("day", "model", "application"), first, last, caller.tenant
    )
    return UsageShape(
        data=rows,
        costs=[CostShape.model_validate(row, from_attributes=True) for row in spent],
        counted_until=datetime.fromtimestamp(until / 1000, UTC),
    )
