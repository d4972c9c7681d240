"""The event about a budget: a part of it, or all of it, is spent."""

from typing import Annotated, Literal

from pydantic import Field

from headrace_schemas.limits import Label, Tenant
from headrace_schemas.model import OutgoingValue
from headrace_schemas.moderation import Count
from headrace_schemas.times import Time


class BudgetReached(OutgoingValue):
    """A tenant, or one of its keys, has spent 50, 80 or 100 % of a budget. It is published once for each in a period.

    100 % are also reached where a job is refused, or ends, since its next call of a model may cost more than is left.
    """

    tenant: Annotated[Tenant, Field(description="The tenant.")]
    key_id: Annotated[
        Label | None, Field(description="The API key whose budget it is; absent for a budget of the tenant.")
    ] = None
    period: Annotated[Literal["day", "month", "ever"], Field(description="The period of the budget.")]
    percent: Annotated[Literal[50, 80, 100], Field(description="The share that is spent, in percent.")]
    most: Annotated[Count, Field(description="The budget, in millionths of the deployment's currency.")]
    spent: Annotated[Count, Field(description="The part that is spent in this period.")]
    reserved: Annotated[Count, Field(description="The part that is reserved for jobs that have not ended.")]
    ends_at: Annotated[Time | None, Field(description="When the period ends; absent: never.")] = None
