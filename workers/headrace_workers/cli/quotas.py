"""`headrace quotas`: how many tokens tenants may use."""

from typing import Annotated

import typer

from headrace_schemas.errors import ConfigurationError, HeadraceError
from headrace_workers.cli.durations import rfc3339
from headrace_workers.cli.options import JsonLinesOption
from headrace_workers.cli.output import console, put_json, say, table
from headrace_workers.cli.tenants import checked_tenant


def register(app: typer.Typer) -> None:
    """Add these commands."""
    quotas = typer.Typer(help="How many tokens tenants may use.", no_args_is_help=True)
    quotas.command("set")(set_quota)
    quotas.command("list")(list_quotas)
    quotas.command("remove")(remove)
    app.add_typer(quotas, name="quotas")


def set_quota(
    tenant: Annotated[str, typer.Argument(help="whose jobs they are")],
    tokens: Annotated[int, typer.Option("--tokens", min=0, help="that its jobs may use, prompts and answers together")],
    per: Annotated[str, typer.Option("--per", help="day, month (UTC), or ever")] = "month",
) -> None:
    """Set a tenant's quota: jobs that may need more than is left are refused, over HTTP, by Kafka and in batches.

    Example: `headrace quotas set shop --tokens 5000000 --per month`
    """
    from headrace_workers.cli.reach import need_ledger

    if per not in ("day", "month", "ever"):
        raise ConfigurationError(f"--per is {per!r}; it may be day, month or ever")
    need_ledger().put_quota(checked_tenant(tenant), tokens, per)  # type: ignore[arg-type]  # checked above
    say(f"{tenant} may use {tokens:,} tokens" + ("" if per == "ever" else f" a {per}"))


def list_quotas(as_json: JsonLinesOption = False) -> None:
    """The quotas that there are: what is used of them in this period, and what is reserved for jobs under way.

    Example: `headrace quotas list`
    """
    from headrace_workers.cli.reach import need_ledger

    found = need_ledger().quotas()
    if as_json:
        for quota in found:
            put_json(
                {"tenant": quota.tenant, "tokens": quota.tokens, "per": quota.period, "used": quota.used,
                 "reserved": quota.reserved, "left": quota.left, "ends_at": rfc3339(quota.ends)}
            )  # fmt: skip
        return
    rows = [
        (quota.tenant, f"{quota.tokens:,}", quota.period, f"{quota.used:,}", f"{quota.reserved:,}", f"{quota.left:,}")
        for quota in found
    ]
    if not rows:
        say("no tenant has a quota: `headrace quotas set TENANT --tokens N` sets one")
        return
    columns = ("tenant", "tokens", "per", "used", "reserved", "left")
    console(data=True).print(table(None, columns, rows, right=("tokens", "used", "reserved", "left")))


def remove(tenant: Annotated[str, typer.Argument(help="whose quota it is")]) -> None:
    """Let a tenant use as much as it likes.

    Example: `headrace quotas remove shop`
    """
    from headrace_workers.cli.reach import need_ledger

    if not need_ledger().remove_quota(tenant):
        raise HeadraceError(f"the tenant {tenant} has no quota: `headrace quotas list` shows all")
    say(f"{tenant} may use any number of tokens")
