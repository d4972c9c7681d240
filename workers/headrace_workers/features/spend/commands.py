"""`headrace budgets` and `headrace cost`: how much money tenants may spend, and what models cost."""

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final, Self

import typer
from pydantic import BaseModel

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.durations import Moment
from headrace_workers.cli.options import JsonLinesOption, checked_tenant, limit_option
from headrace_workers.cli.output import NoSuchThing, console, put_view, say, table
from headrace_workers.core.ledger.charges import UNKNOWN
from headrace_workers.features.access.commands import period_of
from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.features.access.store.quota_rows import Quota
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.features.spend.prices import DeploymentPrices, micro, money
from headrace_workers.features.spend.settings import SpendSettings
from headrace_workers.features.spend.store import By, Spending
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.settings import home_of


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
    def of(cls, quota: Quota) -> Self:
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


_KeyOption = Annotated[str, typer.Option("--key", help="only jobs of this API key, by its id, as in `keys list`")]


def set_budget(
    tenant: Annotated[str, typer.Argument(help="the tenant")],
    most: Annotated[
        float, typer.Option("--most", min=0, max=1_000_000_000, help="in the deployment's currency, HEADRACE_CURRENCY")
    ],
    per: Annotated[str, typer.Option("--per", help="day, month (UTC), or ever")] = "month",
    key: _KeyOption = "",
) -> None:
    """Set how much the jobs of a tenant, or of one key, may spend. A job is refused where its first call may cost more
    than is left. A tenant may have a budget of each period.

    A key's budget covers the jobs that the key sends through a gateway. Jobs that come by Kafka, lines of batches and
    replayed jobs have no key: only a budget of the tenant covers them.

    Example: `headrace budgets set shop --most 250 --per month`
    """
    ledger = need_ledger()
    period = period_of(per)
    found = ledger.of(ApiKeys).find([key]).get(key) if key else None
    if key and (found is None or found.tenant != tenant):
        raise NoSuchThing(f"{tenant} has no key {key}: `headrace keys list --tenant {tenant}` shows all")
    amount = micro(most)
    ledger.of(Quotas).put(checked_tenant(tenant), amount, period, unit="money", key_id=key)
    who = f"the key {key} of {tenant}" if key else tenant
    say(f"{who} may spend {money(amount)}" + ("" if per == "ever" else f" a {per}"))
    _say_what_has_no_price()
    if key:
        _say_what_has_no_key(tenant, any(not each.key_id for each in ledger.of(Quotas).find([tenant], unit="money")))


def _say_what_has_no_price() -> None:
    """Say which models jobs under a budget may not use."""
    registry = Registry(home_of())
    prices = DeploymentPrices(registry, SpendSettings.from_env())
    refused = [alias for alias in registry.aliases() if prices.price(alias) is UNKNOWN]
    if refused:
        say(
            f"jobs under a budget that may need {', '.join(refused)} are refused: nobody knows the price. Set it in "
            "models.toml ([prices.ALIAS])"
        )


def _say_what_has_no_key(tenant: str, tenant_has_one: bool) -> None:
    """Say which jobs a key's budget does not cover."""
    without = "jobs from Kafka, lines of batches and replayed jobs have no key: this budget does not cover them"
    if tenant_has_one:
        say(f"{without}; the budget of {tenant} does")
    else:
        say(f"{without}. {tenant} has no budget of its own: `headrace budgets set {tenant} --most AMOUNT` limits them")


def list_budgets(
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    limit: Annotated[int, limit_option("the number of budgets, by tenant")] = 1_000,
    as_json: JsonLinesOption = False,
) -> None:
    """List budgets: what is spent in this period, and what is reserved for calls of unfinished jobs.

    Example: `headrace budgets list --tenant shop`
    """
    found = need_ledger().of(Quotas).find(None if tenant is None else [tenant], unit="money", limit=limit + 1)
    budgets = [Budget.of(quota) for quota in found[:limit]]
    if as_json:
        for budget in budgets:
            put_view(budget)
    elif budgets:
        figures = ("most", "spent", "reserved", "left")
        rows = [
            (each.tenant, each.key or "", each.per, *(money(getattr(each, name)) for name in figures))
            for each in budgets
        ]
        console(data=True).print(table(None, ("tenant", "key", "per", *figures), rows, right=figures))
    else:
        say("there is no budget: `headrace budgets set TENANT --most AMOUNT` sets one")
    if len(found) > limit:
        say(f"only {limit} are shown: --limit shows more")


def remove_budget(
    tenant: Annotated[str, typer.Argument(help="the tenant")],
    per: Annotated[str | None, typer.Option("--per", help="only that of this period; by default all")] = None,
    key: _KeyOption = "",
) -> None:
    """Remove budgets of a tenant, or of one of its keys.

    Example: `headrace budgets remove shop --per month`
    """
    period = None if per is None else period_of(per)
    if not need_ledger().of(Quotas).remove(tenant, unit="money", key_id=key, period=period):
        raise NoSuchThing("there is no such budget: `headrace budgets list` shows all")
    say("removed")


_COLUMNS: Final = ("tenant", "model", "application", "day")


def cost(
    by: Annotated[
        str, typer.Option("--by", help="tenant, model, application and day, or some of them, with commas")
    ] = "tenant",
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    days: Annotated[int, typer.Option("--days", min=1, max=3_660, help="of so many days up to today (UTC)")] = 30,
    as_json: JsonLinesOption = False,
) -> None:
    """Show what calls of models cost: judges and failed jobs included. Jobs that ended in the last minutes come later.

    The upper bound is the part of the cost that belongs to calls whose usage nobody knows, such as those of a killed
    worker: they are charged with the most that they may have cost.

    Of applications each version has its own row.

    Examples: `headrace cost --by tenant,model`, `headrace cost --by day --tenant shop --days 7`
    """
    names = _names(by)
    today = datetime.now(UTC).date()
    first = today - timedelta(days=days - 1)
    found, _ = need_ledger().of(Spending).spent(names, first, today, tenant)
    rows = [CostRow.model_validate(row, from_attributes=True) for row in found]
    if as_json:
        for row in rows:
            put_view(row)
    elif rows:
        shown = [(*(_text(row, name) for name in names), *_figures(row)) for row in rows]
        columns = (*names, "calls", "cost", "of it an upper bound", "calls without a price")
        console(data=True).print(table(None, columns, shown, right=columns[len(names) :]))
    else:
        say(f"no job that called a model has ended since {first}")


def _names(by: str) -> list[By]:
    names = [name.strip() for name in by.split(",") if name.strip()]
    for name in names:
        if name not in _COLUMNS:
            raise ConfigurationError(f"--by is {by!r}; it may be {', '.join(_COLUMNS)}, or several with commas")
    return list(dict.fromkeys(names))  # type: ignore[arg-type]  # checked above


def _text(row: CostRow, name: str) -> str:
    value: Any = getattr(row, name)
    return "none" if value is None else str(value)


def _figures(row: CostRow) -> tuple[str, str, str, str]:
    cost, bound = ("unknown", "") if row.currency is None else (f"{money(row.amount)} {row.currency}", money(row.bound))
    return f"{row.calls:,}", cost, bound, f"{row.unknown_calls:,}"
