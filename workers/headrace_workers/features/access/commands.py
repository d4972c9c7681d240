"""`headrace keys`: API keys, which say who may come in over HTTP."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final, Literal, Self

import typer
from pydantic import BaseModel

from headrace_producers.settings import ProducerSettings
from headrace_schemas.errors import ConfigurationError, HeadraceError
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.durations import Moment, parse_life, rfc3339
from headrace_workers.cli.options import limit_option, tenant_meant
from headrace_workers.cli.output import Column, NoSuchThing, put, put_json, put_list, say
from headrace_workers.cli.streams import shown_or
from headrace_workers.core.fields import copied
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.private_files import write_atomically
from headrace_workers.core.scopes import all_scopes, scopes_of, usual_scopes
from headrace_workers.features.access.store.keys import ApiKeys, KeyRow, NewKey, Token, new_token, read_token


class ApiKey(BaseModel):
    """A key; never the secret that opens."""

    id: str
    tenant: str
    name: str
    state: Literal["valid", "expired", "revoked"]
    scopes: list[str]
    made_at: Moment
    expires_at: Moment
    revoked_at: Moment

    @classmethod
    def of(cls, row: KeyRow) -> Self:
        """Return the view of a key."""
        state = "revoked" if row.revoked_at is not None else "valid" if row.valid else "expired"
        return copied(cls, row, state=state, scopes=list(row.scopes))


KEY_FILE: Final = "api-key"  # in the home of an embedded stack
_LONGEST_NAME: Final = 256
_LifeOption = Annotated[str | None, typer.Option("--expires", help="it expires after, e.g. 90d, 12h; by default never")]
_JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]


def create(
    name: Annotated[str, typer.Argument(help="its purpose, for people")] = "",
    tenant: Annotated[str | None, typer.Option("--tenant", help="the tenant whose jobs it may send and see")] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="a scope; may be repeated; by default all but metrics and operator"),
    ] = None,
    expires: _LifeOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Create an API key and print it. It is shown only this once.

    Example: `headrace keys create "the shop" --tenant shop --scope jobs:write --expires 90d`
    """
    whose = tenant_meant(tenant)
    scopes = scopes_of(scope) if scope else usual_scopes()
    token, key = new_key(whose, name, tuple(sorted(scopes)), expires)
    keys = need_ledger().of(ApiKeys)
    keys.add(key)
    with shown_or(lambda: keys.take_back(key.id)):
        _show(token, key, as_json)


def list_keys(
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    limit: Annotated[int, limit_option("at most so many, newest first")] = 100,
    as_json: _JsonOption = False,
) -> None:
    """List API keys, newest first. The secrets are never shown.

    Example: `headrace keys list --tenant shop`
    """
    rows = need_ledger().of(ApiKeys).listed(tenant, limit + 1)
    nothing = "no keys: `headrace keys create NAME` makes one"
    put_list(list(map(ApiKey.of, rows)), _COLUMNS, nothing, as_json=as_json, limit=limit, whole=("key",))


def rotate(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="its id, as in `keys list`")],
    grace: Annotated[str, typer.Option("--grace", help="for how long the old key still works")] = "24h",
    expires: _LifeOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Replace a key by a new one for the same tenant, with the same scopes. The old key expires.

    Example: `headrace keys rotate 5f2c9d1e8a7b --grace 7d`
    """
    keys = need_ledger().of(ApiKeys)
    old = keys.find([key_id]).get(key_id)
    if old is None:
        raise NoSuchThing(f"there is no key {key_id}: `headrace keys list` shows all")
    token, key = new_key(old.tenant, old.name, old.scopes, expires)
    if not keys.rotate(key_id, key, _ms(parse_life(grace, "--grace", none=True))):
        raise HeadraceError(f"the key {key_id} is {ApiKey.of(old).state} already: `headrace keys create` makes another")
    with shown_or(lambda: keys.take_back(key.id, old)):
        _show(token, key, as_json)
    say(f"{key_id} expires in {grace}")


def revoke(key_id: Annotated[str, typer.Argument(metavar="KEY", help="its id, as in `keys list`")]) -> None:
    """Revoke a key. Gateways refuse it within five seconds.

    Example: `headrace keys revoke 5f2c9d1e8a7b`
    """
    if not need_ledger().of(ApiKeys).revoke(key_id):
        raise NoSuchThing(f"there is no valid key {key_id}: `headrace keys list` shows all")
    say(f"{key_id}: revoked")


def new_key(tenant: str, name: str, scopes: tuple[str, ...], expires: str | None = None) -> tuple[Token, NewKey]:
    """Return a new key as its holder gets it, and as the ledger keeps it."""
    if len(name) > _LONGEST_NAME:
        raise ConfigurationError(f"the name has more than {_LONGEST_NAME} characters")
    lives = None if expires is None else _ms(parse_life(expires, "--expires"))
    token = new_token()
    return token, NewKey(token.id, tenant, name, scopes, token.digest, lives)


def first_key(home: Path, ledger_url: str) -> Token:
    """Return the API key of an embedded stack: the key in the home's file if the ledger knows it as valid.

    Else make a key with all scopes for HEADRACE_TENANT, and write it to that file.
    """
    file, ledger = home / KEY_FILE, Ledger.at(ledger_url)
    try:
        kept = _key_in(file)
        row = ledger.of(ApiKeys).find([kept.id]).get(kept.id) if kept else None
        if kept and row and row.valid and row.digest == kept.digest:
            return kept
        token, key = new_key(ProducerSettings.from_env().tenant, "made by headrace up", tuple(sorted(all_scopes())))
        ledger.of(ApiKeys).add(key)
        write_atomically(file, f"{token.text}\n")
        return token
    finally:
        ledger.close()


def _key_in(file: Path) -> Token | None:
    try:
        return read_token(file.read_text(encoding="ascii").strip())
    except (OSError, ValueError):
        return None


def _show(token: Token, key: NewKey, as_json: bool) -> None:
    if as_json:
        put_json({"id": key.id, "key": token.text, "tenant": key.tenant, "name": key.name, "scopes": list(key.scopes)})
        return
    put(token.text)
    say("It is shown only this once. Clients of OpenAI take it as OPENAI_API_KEY, others as `Authorization: Bearer …`")


def _ms(duration: timedelta) -> int:
    return int(duration.total_seconds() * 1000)


def _day(ms: int | None) -> str:
    return (rfc3339(ms) or "never").partition("T")[0]


_COLUMNS: Final[Mapping[str, Column]] = {
    "key": "id", "tenant": "tenant", "name": "name", "state": "state", "made": lambda key: _day(key.made_at),
    "expires": lambda key: _day(key.expires_at), "scopes": lambda key: " ".join(key.scopes),
}  # fmt: skip
