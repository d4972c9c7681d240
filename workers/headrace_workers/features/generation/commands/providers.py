"""`headrace providers`: the providers that may see a tenant's texts."""

from typing import Annotated, Final

import typer
from pydantic import BaseModel, TypeAdapter, ValidationError

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import Name
from headrace_workers.cli.options import JsonLinesOption, checked_tenant, limit_option
from headrace_workers.cli.output import NoSuchThing, console, put_view, say, table
from headrace_workers.core.ports import OWN
from headrace_workers.runtime.settings import home_of

_NAME: Final = TypeAdapter[str](Name)
_SHOWN: Final = 80  # characters of a wrong name

TenantArgument = Annotated[str, typer.Argument(help="the tenant")]


class AllowList(BaseModel):
    """The providers that a tenant allows."""

    tenant: str
    providers: list[str]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    providers = typer.Typer(help="Manage the providers that may see a tenant's texts.", no_args_is_help=True)
    providers.command("allow")(allow)
    providers.command("list")(list_allowed)
    providers.command("revoke")(revoke)
    app.add_typer(providers, name="providers")


def allow(
    tenant: TenantArgument,
    providers: Annotated[str, typer.Argument(help="names of providers, with commas between them")],
) -> None:
    """Allow further providers to see a tenant's texts.

    Without a list, a tenant's jobs run on local models alone.

    Example: `headrace providers allow shop openai,anthropic`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.generation.models.registry import list_cards
    from headrace_workers.features.providers.store import AllowedProviders

    names = _checked(providers)
    store = need_ledger().of(AllowedProviders)
    store.allow(checked_tenant(tenant), names)
    known = {card.provider for card in list_cards(home_of()) if card.provider is not None}
    if unknown := sorted(set(names) - known):
        say(f"warning: no model in models.toml is of {', '.join(unknown)}; the providers there are: "
            f"{', '.join(sorted(known)) or 'none'}")  # fmt: skip
    allowed = ", ".join(store.listed(tenant, 1, None)[tenant])
    say(f"the tenant {tenant} allows these providers to see its texts: {allowed}")


def list_allowed(
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    limit: Annotated[int, limit_option("the number of tenants, by name")] = 100,
    after: Annotated[str | None, typer.Option("--after", help="only tenants after this one")] = None,
    as_json: JsonLinesOption = False,
) -> None:
    """List the providers that each tenant allows.

    Examples: `headrace providers list`, `headrace providers list --tenant shop --json`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.providers.store import AllowedProviders

    found = need_ledger().of(AllowedProviders).listed(tenant, limit + 1, after)
    lists = [AllowList(tenant=name, providers=found[name]) for name in list(found)[:limit]]
    if as_json:
        for each in lists:
            put_view(each)
    elif lists:
        rows = [(each.tenant, ", ".join(each.providers)) for each in lists]
        console(data=True).print(table(None, ("tenant", "providers"), rows))
    elif tenant is not None:
        say(f"the tenant {tenant} uses local models alone: `headrace providers allow {tenant} NAME` allows a provider")
    else:
        say("every tenant uses local models alone: `headrace providers allow TENANT NAME` allows a provider")
    if len(found) > limit:
        say(f"only {limit} are shown: --after {lists[-1].tenant} shows the next, --limit more at a time")


def revoke(
    tenant: TenantArgument,
    providers: Annotated[
        str | None, typer.Argument(help="names of providers, with commas between them; absent: all")
    ] = None,
) -> None:
    """Keep a tenant's texts from providers that it allowed. Jobs that wait for such a provider end, or go to another
    model of their chain.

    Examples: `headrace providers revoke shop openai`, `headrace providers revoke shop`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.providers.store import AllowedProviders

    names = None if providers is None else _checked(providers)
    store = need_ledger().of(AllowedProviders)
    gone = store.revoke(tenant, names)
    if missing := sorted(set(names or ()) - set(gone)):
        raise NoSuchThing(
            f"the tenant {tenant} did not allow {', '.join(missing)}: `headrace providers list` shows all"
        )
    if not gone:
        raise NoSuchThing(f"the tenant {tenant} allows no provider: `headrace providers list` shows all")
    left = store.listed(tenant, 1, None).get(tenant, [])
    say(f"the tenant {tenant} allows {', '.join(left)}" if left else f"the tenant {tenant} uses local models alone")


def _checked(names: str) -> list[str]:
    """Return the names in a list. Raise ConfigurationError for a name that no provider can have."""
    found = [name.strip() for name in names.split(",") if name.strip()]
    if not found:
        raise ConfigurationError("no provider is named: name some, such as openai,anthropic")
    for name in found:
        try:
            _NAME.validate_python(name)
        except ValidationError:
            raise ConfigurationError(f"{name[:_SHOWN]!r} cannot name a provider") from None
        if name == OWN:
            raise ConfigurationError(f"{name!r} means machines of this deployment, which need no permission")
    return found
