"""`headrace models status` and `headrace models resume`: which models may be asked, and how their calls go."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from headrace_workers.cli.durations import rfc3339, show_ms
from headrace_workers.cli.options import JsonLinesOption
from headrace_workers.cli.output import console, put_json, say, table
from headrace_workers.runtime.settings import home_of

if TYPE_CHECKING:
    from headrace_workers.features.generation.models.catalogue import RemoteModel
    from headrace_workers.features.generation.store.breakers import Calls, Health

_MOST_MINUTES: Final = 60


def status(
    minutes: Annotated[
        int, typer.Option("--minutes", min=1, max=_MOST_MINUTES, help="count the calls of so many minutes")
    ] = 15,
    as_json: JsonLinesOption = False,
) -> None:
    """Show which models may be asked at the moment, and the calls of the last minutes.

    A breaker is open while nobody asks the model, and half open while one call tries whether it answers again.

    Examples: `headrace models status`, `headrace models status --minutes 60 --json`
    """
    from headrace_workers.cli.connections import need_ledger
    from headrace_workers.features.generation.models.registry import Registry
    from headrace_workers.features.generation.store.breakers import Breakers

    store = need_ledger().of(Breakers)
    health, calls = store.all(), store.calls(minutes)
    names = sorted({*Registry(home_of()).aliases(), *health, *calls})
    found = [status_of(name, health.get(name), calls.get(name), minutes) for name in names]
    if as_json:
        for each in found:
            put_json(each)
    elif found:
        columns = ("model", "breaker", "asked again in", "calls/min", "failed", "mean", "slowest", "last failure")
        rows = [_row(each) for each in found]
        console(data=True).print(table(None, columns, rows, right=columns[2:7], clip=("last failure",)))
    else:
        say(f"no models in {home_of()}, and no call of one in the last {minutes} minutes")


def resume(model: Annotated[str, typer.Argument(help="the model that may be asked again")]) -> None:
    """Ask a model again now: close its breaker, end the pause of its provider's key, and run the jobs that wait for it.

    A provider that asks for a long pause, with `Retry-After`, may be back before that. Other models with the same key
    may be asked again, too; name each whose jobs wait.

    Example: `headrace models resume large`
    """
    from headrace_schemas.errors import UnknownModel
    from headrace_workers.cli.connections import need_ledger, ring_bridges
    from headrace_workers.features.generation.breaker import Breaker
    from headrace_workers.features.generation.models.registry import Registry
    from headrace_workers.features.generation.store.breakers import Breakers

    registry = Registry(home_of())
    if model not in registry:
        known = ", ".join(registry.aliases()) or "none"
        raise UnknownModel(f"no model is called {model!r}; known are: {known}")
    store = need_ledger().of(Breakers)
    if (remote := registry.get(model).remote) is not None:
        _end_pause(remote)
    store.follow(model, lambda *_: Breaker())
    woken = 0
    while some := store.make_due(model):
        woken += some
    ring_bridges()
    say(f"{model} may be asked again; {woken:,} of its jobs wait no longer")


def _end_pause(remote: "RemoteModel") -> None:
    """End the pause of a model's key. Raise an error where the workers' Redis does not answer, or is not known."""
    from headrace_producers.settings import topic_prefix
    from headrace_schemas.errors import ConfigurationError, Unavailable
    from headrace_workers.cli.connections import find_redis_url
    from headrace_workers.features.generation.engines.remote.rates import CallRates, key_of
    from headrace_workers.runtime.wire.redis_client import redis_client
    from headrace_workers.runtime.wire.redis_names import RedisNames

    url = find_redis_url()
    if url is None:
        raise ConfigurationError("set HEADRACE_REDIS: the workers keep the pauses of their providers' keys there")
    with redis_client(url) as client:
        if not CallRates(remote, client, RedisNames(topic_prefix()).calls(key_of(remote))).resume():
            raise Unavailable("Redis does not answer, where the workers keep the pauses of their providers' keys")


def status_of(name: str, health: "Health | None", calls: "Calls | None", minutes: int) -> dict[str, Any]:
    """Return what is shown of a model."""
    breaker = health.breaker if health else None
    now = health.now if health else 0
    count, failures = (calls.calls, calls.failures) if calls else (0, 0)
    answered = count - failures
    return {
        "model": name,
        "breaker": breaker.state(now) if breaker else "closed",
        "since": rfc3339(breaker.opened_at) if breaker else None,
        "open_until": rfc3339(breaker.open_until) if breaker else None,
        "asked_again_in_ms": breaker.opens_in(now) if breaker else 0,
        "drill": health.drill if health else None,
        "last_failure": breaker.reason if breaker else None,
        "minutes": minutes,
        "calls": count,
        "calls_per_minute": round(count / minutes, 2),
        "failures": failures,
        "mean_ms": round(calls.ms / answered, 1) if calls and answered else None,
        "slowest_ms": calls.slowest_ms if calls and answered else None,
    }


def _row(each: Mapping[str, Any]) -> tuple[str, ...]:
    share = f"{100 * each['failures'] / each['calls']:.0f} %" if each["calls"] else "–"
    return (
        each["model"],
        each["breaker"].replace("_", " ") + (f", drill: {each['drill']}" if each["drill"] else ""),
        show_ms(each["asked_again_in_ms"]) if each["asked_again_in_ms"] else "–",
        f"{each['calls_per_minute']:g}",
        share,
        show_ms(each["mean_ms"]),
        show_ms(each["slowest_ms"]),
        each["last_failure"] or "–",
    )
