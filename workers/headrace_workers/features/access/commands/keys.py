"""`headrace keys`: who may come in over HTTP."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace_schemas.errors import ConfigurationError, HeadraceError
from headrace_workers.cli.durations import parse_life, rfc3339
from headrace_workers.cli.options import limit_option, tenant_meant
from headrace_workers.cli.output import console, put, put_json, put_view, say, table
from headrace_workers.cli.streams import shown_or
from headrace_workers.features.access.views import ApiKey

if TYPE_CHECKING:
    from headrace_workers.features.access.key_text import Token
    from headrace_workers.features.access.store.keys import NewKey

_LONGEST_NAME: Final = 256
_LifeOption = Annotated[str | None, typer.Option("--expires", help="after so long: 90d, 12h; never without it")]
_JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    keys = typer.Typer(help="API keys of the HTTP gateway.", no_args_is_help=True)
    keys.command("create")(create)
    keys.command("list")(list_keys)
    keys.command("rotate")(rotate)
    keys.command("revoke")(revoke)
    app.add_typer(keys, name="keys")


def create(
    name: Annotated[str, typer.Argument(help="what it is for, for people")] = "",
    tenant: Annotated[str | None, typer.Option("--tenant", help="whose jobs it sends and sees")] = None,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="what it may do; may be repeated; all but metrics without it")
    ] = None,
    expires: _LifeOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Make a key and print it: it is shown this once, and kept nowhere.

    Example: `headrace keys create "the shop" --tenant shop --scope jobs:write --expires 90d`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.access.store.keys import ApiKeys
    from headrace_workers.http.scopes import USUAL, scopes_of

    whose = tenant_meant(tenant)
    scopes = scopes_of(scope) if scope else USUAL
    token, key = new_key(whose, name, tuple(sorted(scopes)), expires)
    keys = need_ledger().of(ApiKeys)
    keys.add(key)
    with shown_or(lambda: keys.take_back(key.id)):
        _show(token, key, as_json)


def list_keys(
    tenant: Annotated[str | None, typer.Option("--tenant", help="only this tenant's")] = None,
    limit: Annotated[int, limit_option("the newest so many")] = 100,
    as_json: _JsonOption = False,
) -> None:
    """The keys that there are, the newest first; never the keys themselves.

    Example: `headrace keys list --tenant shop`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.access.store.keys import ApiKeys

    found = need_ledger().of(ApiKeys).listed(tenant, limit + 1)
    keys = [ApiKey.of(row) for row in found[:limit]]
    if as_json:
        for key in keys:
            put_view(key)
    elif keys:
        shown = [
            (key.id, key.tenant, key.name, key.state, _day(key.made_at), _day(key.expires_at), " ".join(key.scopes))
            for key in keys
        ]
        columns = ("key", "tenant", "name", "state", "made", "expires", "scopes")
        console(data=True).print(table(None, columns, shown, whole=("key",)))
    else:
        say("no keys: `headrace keys create NAME` makes one")
    if len(found) > limit:
        say(f"only the {limit} newest are shown: --limit shows more")


def rotate(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="the id, as `keys list` shows it")],
    grace: Annotated[str, typer.Option("--grace", help="the old one still opens for so long")] = "24h",
    expires: _LifeOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Make a key in the place of another: for the same tenant, with the same scopes. The old one expires.

    Example: `headrace keys rotate 5f2c9d1e8a7b --grace 7d`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.access.store.keys import ApiKeys

    keys = need_ledger().of(ApiKeys)
    old = keys.find([key_id]).get(key_id)
    if old is None:
        raise HeadraceError(f"there is no key {key_id}: `headrace keys list` shows all")
    token, key = new_key(old.tenant, old.name, old.scopes, expires)
    if not keys.rotate(key_id, key, _ms(parse_life(grace, "--grace", none=True))):
        raise HeadraceError(f"the key {key_id} is {ApiKey.of(old).state} already: `headrace keys create` makes another")
    with shown_or(lambda: keys.take_back(key.id, old)):
        _show(token, key, as_json)
    say(f"{key_id} expires in {grace}")


def revoke(key_id: Annotated[str, typer.Argument(metavar="KEY", help="the id, as `keys list` shows it")]) -> None:
    """Let nobody in with a key any more: gateways know within five seconds.

    Example: `headrace keys revoke 5f2c9d1e8a7b`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.access.store.keys import ApiKeys

    if not need_ledger().of(ApiKeys).revoke(key_id):
        raise HeadraceError(f"there is no valid key {key_id}: `headrace keys list` shows all")
    say(f"{key_id}: revoked")


def new_key(tenant: str, name: str, scopes: tuple[str, ...], expires: str | None = None) -> "tuple[Token, NewKey]":
    """A new key, as its holder gets it and as the ledger keeps it."""
    from headrace_workers.features.access.key_text import new_token
    from headrace_workers.features.access.store.keys import NewKey

    if len(name) > _LONGEST_NAME:
        raise ConfigurationError(f"the name has more than {_LONGEST_NAME} characters")
    lives = None if expires is None else _ms(parse_life(expires, "--expires"))
    token = new_token()
    return token, NewKey(token.id, tenant, name, scopes, token.digest, lives)


def _show(token: "Token", key: "NewKey", as_json: bool) -> None:
    if as_json:
        put_json({"id": key.id, "key": token.text, "tenant": key.tenant, "name": key.name, "scopes": list(key.scopes)})
        return
    put(token.text)
    say("It is shown this once. Clients of OpenAI take it as OPENAI_API_KEY, others as `Authorization: Bearer …`")


def _ms(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)


def _day(ms: int | None) -> str:
    return (rfc3339(ms) or "never").partition("T")[0]
