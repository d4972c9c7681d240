"""`headrace limits` and `headrace cost`: the tokens and the money that tenants may use, and what models cost."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final, Literal, Self

import typer
from pydantic import BaseModel

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.durations import Moment
from headrace_workers.cli.options import MOST_TOKENS, JsonLinesOption, checked_tenant, limit_option
from headrace_workers.cli.output import Column, NoSuchThing, put_list, say
from headrace_workers.core.fields import copied
from headrace_workers.core.ledger.charges import UNKNOWN
from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.features.access.store.quota_rows import Period, Quota, Unit
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.features.spend.prices import DeploymentPrices, micro, money
from headrace_workers.features.spend.settings import SpendSettings
from headrace_workers.features.spend.store import By, CostRow, Spending
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.settings import home_of


class Limit(BaseModel):
    """The tokens, or the money in millionths of the currency, that a tenant or one of its keys may use in a period, and
    what is used and reserved in the present one.
    """

    tenant: str
    key: str | None
    unit: Literal["tokens", "money"]
    per: str
    most: int
    used: int
    reserved: int
    left: int
    ends_at: Moment

    @classmethod
    def of(cls, quota: Quota) -> Self:
        """Return the view of a quota."""
        return copied(cls, quota, key=quota.key_id or None, per=quota.period, ends_at=quota.ends)


_FIGURES: Final = ("most", "used", "reserved", "left")
_MOST_MONEY: Final = 1_000_000_000
_KeyOption = Annotated[str, typer.Option("--key", help="only jobs of this API key, by its id, as in `keys list`")]


def set_limit(
    tenant: Annotated[str, typer.Argument(help="the tenant")],
    tokens: Annotated[
        int | None,
        typer.Option("--tokens", min=0, max=MOST_TOKENS, help="tokens of its jobs, prompts and answers together"),
    ] = None,
    most: Annotated[
        float | None,
        typer.Option("--money", min=0, max=_MOST_MONEY, help="in the deployment's currency, HEADRACE_CURRENCY"),
    ] = None,
    per: Annotated[str, typer.Option("--per", help="day, month (UTC), or ever")] = "month",
    key: _KeyOption = "",
) -> None:
    """Set the tokens or the money that the jobs of a tenant may use: its quota or a budget. Jobs that may need more
    than is left are refused.

    A tenant has one quota of tokens, and may have a budget of money for each period. A key may have budgets too: they
    cover the jobs that the key sends through a gateway. Jobs that come by Kafka, lines of batches and replayed jobs
    have no key: only a budget of the tenant covers them.

    Examples: `headrace limits set shop --tokens 5000000 --per month`, `headrace limits set shop --money 250`
    """
    if (tokens is None) == (most is None):
        raise ConfigurationError("give --tokens or --money, and not both")
    ledger, period = need_ledger(), _period_of(per)
    a_period = "" if per == "ever" else f" a {per}"
    if tokens is not None:
        if key:
            raise ConfigurationError("--key limits money only: give --money")
        ledger.of(Quotas).put(checked_tenant(tenant), tokens, period)
        say(f"{tenant} may use {tokens:,} tokens{a_period}")
        return
    row = ledger.of(ApiKeys).find([key]).get(key) if key else None
    if key and (row is None or row.tenant != tenant):
        raise NoSuchThing(f"{tenant} has no key {key}: `headrace keys list --tenant {tenant}` shows all")
    amount = micro(most or 0)
    ledger.of(Quotas).put(checked_tenant(tenant), amount, period, unit="money", key_id=key)
    say(f"{f'the key {key} of {tenant}' if key else tenant} may spend {money(amount)}{a_period}")
    _say_what_has_no_price()
    if key:
        _say_what_has_no_key(tenant, any(not quota.key_id for quota in ledger.of(Quotas).find([tenant], unit="money")))


def _period_of(text: str) -> Period:
    """Return the period that `--per` names. Raise ConfigurationError where it names none."""
    if text not in ("day", "month", "ever"):
        raise ConfigurationError(f"--per is {text!r}; it may be day, month or ever")
    return text  # type: ignore[return-value]  # checked above


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
        say(f"{without}. {tenant} has no budget of its own: `headrace limits set {tenant} --money AMOUNT` limits them")


def list_limits(
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    limit: Annotated[int, limit_option("the number of limits, by tenant")] = 100,
    after: Annotated[str | None, typer.Option("--after", help="only tenants after this one")] = None,
    as_json: JsonLinesOption = False,
) -> None:
    """List quotas and budgets: what is used in this period, and what is reserved for unfinished jobs.

    Examples: `headrace limits list`, `headrace limits list --limit 1000 --after shop`
    """
    quotas = need_ledger().of(Quotas).find(None if tenant is None else [tenant], limit=limit + 1, after=after)
    limits = [Limit.of(quota) for quota in quotas[:limit]]
    if len(quotas) > limit:  # a tenant stands on one page
        limits = [row for row in limits if row.tenant != quotas[limit].tenant] or limits
    nothing = "none of these tenants has a limit"
    if tenant is None and after is None:
        nothing = "no tenant has a limit: `headrace limits set TENANT --tokens N` or `--money AMOUNT` sets one"
    names: dict[str, Column] = {name: name for name in ("tenant", "key", "unit", "per")}
    figures: dict[str, Column] = {name: partial(_figure_of, name) for name in _FIGURES}
    put_list(limits, names | figures, nothing, as_json=as_json, right=_FIGURES)
    if len(quotas) > limit:
        say(f"only {len(limits)} are shown: --after {limits[-1].tenant} shows the next, --limit more at a time")


def _figure_of(name: str, row: Limit) -> str:
    return money(getattr(row, name)) if row.unit == "money" else f"{getattr(row, name):,}"


def remove_limits(
    tenant: Annotated[str, typer.Argument(help="the tenant")],
    unit: Annotated[str | None, typer.Option("--unit", help="only of tokens, or only of money")] = None,
    per: Annotated[str | None, typer.Option("--per", help="only that of this period; by default all")] = None,
    key: _KeyOption = "",
) -> None:
    """Remove limits of a tenant, or of one of its keys.

    Examples: `headrace limits remove shop`, `headrace limits remove shop --unit money --per month`
    """
    if unit not in (None, "tokens", "money"):
        raise ConfigurationError(f"--unit is {unit!r}; it may be tokens or money")
    period, quotas = None if per is None else _period_of(per), need_ledger().of(Quotas)
    units: tuple[Unit, ...] = ("tokens", "money") if unit is None else (unit,)  # type: ignore[assignment]  # checked above
    removed = [quotas.remove(tenant, unit=name, key_id=key, period=period) for name in units]
    if not any(removed):
        raise NoSuchThing("there is no such limit: `headrace limits list` shows all")
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
    rows, _ = need_ledger().of(Spending).spent(names, first, today, tenant)
    columns: dict[str, Column] = {name: partial(_text, name) for name in names}
    put_list(
        rows, {**columns, **_FIGURES_OF_COST}, f"no job that called a model has ended since {first}", as_json=as_json,
        right=tuple(_FIGURES_OF_COST),
    )  # fmt: skip


def _names(by: str) -> list[By]:
    names = [name.strip() for name in by.split(",") if name.strip()]
    for name in names:
        if name not in _COLUMNS:
            raise ConfigurationError(f"--by is {by!r}; it may be {', '.join(_COLUMNS)}, or several with commas")
    return list(dict.fromkeys(names))  # type: ignore[arg-type]  # checked above


def _text(name: str, row: CostRow) -> str:
    value: Any = getattr(row, name)
    return "none" if value is None else str(value)


_FIGURES_OF_COST: Final[Mapping[str, Column]] = {
    "calls": "calls", "cost": lambda row: "unknown" if row.currency is None else f"{money(row.amount)} {row.currency}",
    "of it an upper bound": lambda row: None if row.currency is None else money(row.bound),
    "calls without a price": "unknown_calls",
}  # fmt: skip
