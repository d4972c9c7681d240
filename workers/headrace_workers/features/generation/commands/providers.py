"""`headrace providers`: the providers that may see a tenant's texts."""

from contextlib import closing
from pathlib import Path
from typing import Annotated, Final

import typer
from pydantic import TypeAdapter, ValidationError

from headrace_schemas import Message, Sampling
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import Name
from headrace_workers.cli.connections import need_ledger, running
from headrace_workers.cli.options import JsonLinesOption, checked_tenant, limit_option
from headrace_workers.cli.output import NoSuchThing, put_list, say
from headrace_workers.core.pipeline.chain import OWN
from headrace_workers.features.providers.store import AllowedProviders
from headrace_workers.models.catalogue import CATALOGUE_FILE, MOST_PRICE, CatalogueModel
from headrace_workers.models.engines.engine import LoadOptions, engines, need_client
from headrace_workers.models.engines.remote.generator import RemoteGenerator
from headrace_workers.models.generator import Completion, Request
from headrace_workers.models.model_address import ModelAddress, enter_model, known_engines
from headrace_workers.models.registry import list_cards, remote_card
from headrace_workers.runtime.settings import home_of

_NAME: Final = TypeAdapter[str](Name)
_SHOWN: Final = 80  # characters of a wrong name

TenantArgument = Annotated[str, typer.Argument(help="the tenant")]


def add(
    provider: Annotated[
        str, typer.Argument(help="openai or anthropic; openai for every endpoint that is like OpenAI's")
    ],
    model: Annotated[str, typer.Option("--model", help="the model, as the provider calls it")],
    key: Annotated[
        str | None, typer.Option("--key", help="where its key is: env:VARIABLE or file:/absolute/path")
    ] = None,
    url: Annotated[str | None, typer.Option("--url", help="the endpoint, if it is not the provider's own")] = None,
    price: Annotated[
        str | None, typer.Option("--price", help="of a million tokens of input and of output, such as 0.25:2")
    ] = None,
    context: Annotated[
        int | None, typer.Option("--context", min=2, help="tokens of prompt and answer together")
    ] = None,
) -> None:
    """Add a model of a provider to models.toml, after one short call that checks the key and the model. A worker with
    `--remote` serves it at once.

    Examples: `headrace providers add openai --model gpt-5-mini --key env:OPENAI_API_KEY --price 0.25:2`,
    `headrace providers add openai --model qwen3 --url http://localhost:11434/v1`
    """
    if provider not in known_engines():
        known = ", ".join(known_engines())
        raise ConfigurationError(
            f"{provider[:_SHOWN]!r} is none of {known}: for another provider say openai, and give --url"
        )
    address = ModelAddress(
        provider, model, url.rstrip("/") if url else None, api_key=key, context_length=context, price=_price(price)
    )
    need_client(provider, address.alias)
    entry = address.checked()
    told = _try(address.alias, entry, address.price)
    home = home_of()
    if enter_model(home, address) is None:
        say(f"{home / CATALOGUE_FILE} has this model already, and was not changed. {told}")
        return
    say(f"{told}\nAdded to {home / CATALOGUE_FILE}:\n  " + address.entry().rstrip().replace("\n", "\n  "))
    say(f"Jobs name this model {address.alias}.")
    if entry.provider != OWN:
        say(f"Allow it for a tenant: `headrace providers allow default {entry.provider}`")
    _say_who_serves_it(entry)


def _price(text: str | None) -> tuple[float, float] | None:
    """Return the prices in a text such as `0.25:2`."""
    if text is None:
        return None
    try:
        read, written = (float(part) for part in text.split(":"))
    except ValueError:
        raise ConfigurationError(f"--price is {text[:_SHOWN]!r}: give two numbers, such as 0.25:2") from None
    if not (0 <= read <= MOST_PRICE and 0 <= written <= MOST_PRICE):
        raise ConfigurationError(f"--price is {text[:_SHOWN]!r}: a price is from 0 to {MOST_PRICE:,}")
    return read, written


def _try(alias: str, entry: CatalogueModel, price: tuple[float, float] | None) -> str:
    """Ask the model once, and return what to say of its answer. Raise ConfigurationError if it gave none."""
    say(f"asking {entry.model} at {entry.endpoint}; its answer may take up to {entry.first_token:g} s to begin")
    generator = engines("generator")[entry.engine].load(remote_card(alias, entry), home_of(), LoadOptions())
    assert isinstance(generator, RemoteGenerator)  # noqa: S101 - as all engines of `known_engines` make
    with closing(generator):
        (completion,) = generator.generate(
            [Request((Message(role="user", content="Say yes."),), Sampling(max_tokens=16))]
        )
    if not isinstance(completion, Completion):
        raise ConfigurationError(f"nothing was added, since one call of {entry.model} failed: {completion}")
    told = (
        f"{entry.model} answered: it read {completion.prompt_tokens} tokens and wrote {completion.completion_tokens}."
    )
    if price is None:
        return f"{told} What it costs is not known: --price says it, and budgets need it."
    call, usual = (
        (read * price[0] + written * price[1]) / 1_000_000
        for read, written in ((completion.prompt_tokens, completion.completion_tokens), (500, 200))
    )
    return f"{told} That cost about {call:.6f}; a job that reads 500 tokens and writes 200 costs {usual:.6f}."


def _say_who_serves_it(entry: CatalogueModel) -> None:
    """Say what to start, unless a stack of this home runs that can serve the model."""
    stack = running()
    if stack is None:
        say("`headrace up` serves it, and so does `headrace worker --role generate --remote`.")
        return
    key = entry.api_key
    if key is not None and key.kind == "env" and not _has_variable(stack.pid, key.name):
        say(f"The stack that runs was started without {key.name}: start it again with the variable, or add the model "
            "with --key file:/absolute/path")  # fmt: skip
    else:
        say("The stack that runs serves it if it asks models of others already; else start `headrace up` again.")


def _has_variable(pid: int, name: str) -> bool:
    """Return True if a process was started with this variable, as far as the system says."""
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return True
    return any(line.startswith(f"{name}=".encode()) for line in content.split(b"\0"))


def allow(
    tenant: TenantArgument,
    providers: Annotated[str, typer.Argument(help="names of providers, with commas between them")],
) -> None:
    """Allow further providers to see a tenant's texts.

    Without a list, a tenant's jobs run on local models alone.

    Example: `headrace providers allow shop openai,anthropic`
    """
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
    found = need_ledger().of(AllowedProviders).listed(tenant, limit + 1, after)
    lists = [{"tenant": name, "providers": found[name]} for name in list(found)[:limit]]
    whose = "every tenant" if tenant is None else f"the tenant {tenant}"
    way = f"`headrace providers allow {tenant or 'TENANT'} NAME` allows a provider"
    columns = {"tenant": "tenant", "providers": "providers"}
    put_list(lists, columns, f"{whose} uses local models alone: {way}", as_json=as_json)
    if len(found) > limit:
        say(f"only {limit} are shown: --after {lists[-1]['tenant']} shows the next, --limit more at a time")


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
