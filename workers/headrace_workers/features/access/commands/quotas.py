"""`headrace quotas`: how many tokens tenants may use."""

from typing import TYPE_CHECKING, Annotated

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.options import MOST_TOKENS, JsonLinesOption, checked_tenant, limit_option
from headrace_workers.cli.output import NoSuchThing, console, put_view, say, table
from headrace_workers.features.access.views import TokenQuota

if TYPE_CHECKING:  # it loads the database
    from headrace_workers.features.access.store.quota_rows import Period


def register(app: typer.Typer) -> None:
    """Add these commands."""
    quotas = typer.Typer(help="Manage the token quotas of tenants.", no_args_is_help=True)
    quotas.command("set")(set_quota)
    quotas.command("list")(list_quotas)
    quotas.command("remove")(remove)
    app.add_typer(quotas, name="quotas")


def set_quota(
    tenant: Annotated[str, typer.Argument(help="the tenant")],
    tokens: Annotated[
        int,
        typer.Option(
            "--tokens", min=0, max=MOST_TOKENS, help="tokens that its jobs may use, prompts and answers together"
        ),
    ],
    per: Annotated[str, typer.Option("--per", help="day, month (UTC), or ever")] = "month",
) -> None:
    """Set a tenant's token quota. Jobs that may need more than is left are refused.

    Example: `headrace quotas set shop --tokens 5000000 --per month`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.access.store.quotas import Quotas

    need_ledger().of(Quotas).put(checked_tenant(tenant), tokens, period_of(per))
    say(f"{tenant} may use {tokens:,} tokens" + ("" if per == "ever" else f" a {per}"))


def period_of(text: str) -> "Period":
    """Return the period that `--per` names. Raise ConfigurationError where it names none."""
    if text not in ("day", "month", "ever"):
        raise ConfigurationError(f"--per is {text!r}; it may be day, month or ever")
    return text  # type: ignore[return-value]  # checked above


def list_quotas(
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    limit: Annotated[int, limit_option("the number of tenants, by name")] = 100,
    after: Annotated[str | None, typer.Option("--after", help="only tenants after this one")] = None,
    as_json: JsonLinesOption = False,
) -> None:
    """List quotas: tokens used in this period, and tokens reserved for unfinished jobs.

    Examples: `headrace quotas list`, `headrace quotas list --limit 1000 --after shop`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.access.store.quotas import Quotas

    more = (
        need_ledger().of(Quotas).find(None if tenant is None else [tenant], unit="tokens", limit=limit + 1, after=after)
    )
    found = [TokenQuota.of(quota) for quota in more[:limit]]
    if as_json:
        for quota in found:
            put_view(quota)
    elif found:
        rows = [
            (each.tenant, f"{each.tokens:,}", each.per, f"{each.used:,}", f"{each.reserved:,}", f"{each.left:,}")
            for each in found
        ]
        columns = ("tenant", "tokens", "per", "used", "reserved", "left")
        console(data=True).print(table(None, columns, rows, right=("tokens", "used", "reserved", "left")))
    elif tenant is None and after is None:
        say("no tenant has a quota: `headrace quotas set TENANT --tokens N` sets one")
    else:
        say("none of these tenants has a quota")
    if len(more) > limit:
        say(f"only {limit} are shown: --after {found[-1].tenant} shows the next, --limit more at a time")


def remove(tenant: Annotated[str, typer.Argument(help="the tenant")]) -> None:
    """Remove a tenant's quota.

    Example: `headrace quotas remove shop`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.access.store.quotas import Quotas

    if not need_ledger().of(Quotas).remove(tenant):
        raise NoSuchThing(f"the tenant {tenant} has no quota: `headrace quotas list` shows all")
    say(f"{tenant} may use any number of tokens")
