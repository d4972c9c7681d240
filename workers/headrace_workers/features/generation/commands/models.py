"""`headrace models`: which models are here and may be asked, and getting more."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from headrace_producers.settings import topic_prefix
from headrace_schemas.aliases import alias_of, embedder_alias
from headrace_schemas.errors import ConfigurationError, Unavailable, UnknownModel
from headrace_workers.cli.connections import find_redis_url, need_ledger, ring_bridges
from headrace_workers.cli.durations import rfc3339, show_ms
from headrace_workers.cli.options import JsonLinesOption
from headrace_workers.cli.output import Column, console, put, put_json, put_list, say, table
from headrace_workers.core.machine import available_memory
from headrace_workers.core.pipeline.chain import OWN
from headrace_workers.core.redis import RedisNames, redis_client
from headrace_workers.features.generation.store.breakers import Breaker, Breakers, Calls, Health
from headrace_workers.models.catalogue import CATALOGUE_FILE, RemoteModel, read_catalogue
from headrace_workers.models.convert import convert as make
from headrace_workers.models.convert import is_made_of
from headrace_workers.models.engines.echo import make_echo_model
from headrace_workers.models.engines.engine import Kind, need_client
from headrace_workers.models.engines.remote.rates import CallRates, key_of
from headrace_workers.models.hub import HUB_MODELS
from headrace_workers.models.model_address import enter_model, parse_address
from headrace_workers.models.pull import pull as get
from headrace_workers.models.pull import pullable
from headrace_workers.models.registry import CARD_FILE, Registry, card_fields, list_cards, models_dir
from headrace_workers.runtime.settings import ModelSettings, home_of

_QuantizationOption = Annotated[str, typer.Option("--quantization", "-q", help="int8, float32, float16, …")]
_ElsewhereOption = Annotated[
    bool, typer.Option("--for-elsewhere", help="also allow a format that only other machines compute in")
]
_JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
_DEFAULT_QUANTIZATION = "int8"
ECHO = "echo"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")

_MOST_MINUTES: Final = 60


def list_models(as_json: _JsonOption = False) -> None:
    """List the models of HEADRACE_HOME, including its models.toml, and the embedder that jobs may name.

    Example: `headrace models list`
    """
    cards = list_cards(home_of())
    columns: dict[str, Column] = {
        "model": "alias", "kind": "kind", "quantization": "number_format", "context": "context_length",
        "size": lambda card: None if card.remote else show_size(card.size_bytes),
        "licence": lambda card: None if card.remote else card.licence,
        "source": lambda card: card.source.split("#")[0],
    }  # fmt: skip
    nothing = f"no models in {home_of() / 'models'}: `headrace models pull {_pullable('generator')[0]}` gets one"
    rows = list(map(card_fields, cards)) if as_json else cards
    put_list(rows, columns, nothing, as_json=as_json, right=("context", "size"))
    if cards and not as_json:
        say(embedder_line(ModelSettings.from_env().embedder, {card.alias for card in cards if card.kind == "embedder"}))


def embedder_line(name: str, here: Collection[str]) -> str:
    """Return which embedder jobs may name, if HEADRACE_EMBEDDER says `name` and these embedders are here."""
    alias = embedder_alias(name)
    if alias == name and name not in here:
        way = "pull" if name in _pullable("embedder") else "convert SOURCE --alias"
        return f"embedding jobs name {alias}, which is not here: `headrace models {way} {name}` gets it"
    return f"embedding jobs name {alias}" + ("" if alias == name else f", for {name}")


def pull(
    name: Annotated[
        str | None,
        typer.Argument(help="a model of the list, or OWNER/NAME/FILE.gguf on the hub; without it, the list is shown"),
    ] = None,
    quantization: _QuantizationOption = _DEFAULT_QUANTIZATION,
    for_elsewhere: _ElsewhereOption = False,
    as_json: _JsonOption = False,
) -> None:
    """Download a model, verify it and convert it. If it is here already, nothing happens. Without a name, list the
    models that you can choose, and tell which fit this machine.

    smollm2-135m-instruct needs no hub and is for trying headrace: its answers are poor. all-minilm-l6-v2 is an
    embedder, for the cache, knowledge bases and embedding jobs.

    Examples: `headrace models pull`; `headrace models pull qwen2.5-1.5b-instruct`
    """
    if name is None:
        _show_choices(as_json)
        return
    with _progress(name) as show:
        card = get(name, home_of(), quantization, for_elsewhere=for_elsewhere, progress=show)
    _tell(card.alias, asdict(card), as_json)


def _show_choices(as_json: bool) -> None:
    memory = available_memory()
    if as_json:
        for name, model in HUB_MODELS.items():
            put_json(
                {
                    "model": name,
                    **asdict(model),
                    "memory": model.memory,
                    "fits": memory is None or model.memory <= memory,
                }
            )
        return
    rows = [
        (name, f"{model.billions} B", show_size(model.download_bytes), show_size(model.memory),
         "?" if memory is None else "yes" if model.memory <= memory else "no", f"{model.context_length:,}",
         model.licence, model.suits)
        for name, model in HUB_MODELS.items()
    ]  # fmt: skip
    columns = ("model", "size", "download", "memory", "fits", "context", "licence", "suits")
    console(data=True).print(table(None, columns, rows, right=("size", "download", "memory", "context")))
    here = "" if memory is None else f" This machine has {show_size(memory)} of memory."
    say(f"`headrace models pull MODEL` gets one, from the model hub.{here}")
    unchecked = ", ".join(name for name, model in HUB_MODELS.items() if not model.checked)
    say(f"All are pinned by SHA-256. Those of {unchecked} are as published; we compared them with no download.")
    say(f"Without the hub: {_pullable('generator')[0]}, from PyPI. It is for trying headrace; its answers are poor.")


def convert(
    source: Annotated[str, typer.Argument(help="a Transformers folder, a .gguf file, or a hub id (owner/name)")],
    alias: Annotated[str | None, typer.Option("--alias", help="its name; by default derived from SOURCE")] = None,
    quantization: _QuantizationOption = _DEFAULT_QUANTIZATION,
    for_elsewhere: _ElsewhereOption = False,
    as_json: _JsonOption = False,
) -> None:
    """Convert a model of your own. A .gguf of the architecture llama, qwen2 or qwen3 needs no torch; all else needs
    headrace[convert].

    A sentence-transformers folder becomes an embedder (BERT with mean pooling), and needs no torch either.

    Example: `headrace models convert ./my-model --alias my-model --quantization int8`
    """
    if not Path(source).exists() and not _HUB_ID.fullmatch(source):
        raise ConfigurationError(f"{source} is neither a folder, a .gguf file nor a hub id (owner/name)")
    name = alias or alias_of(source)
    with _progress(name) as show:
        show(f"converting {source} to {quantization}", 0.0)
        card = make(source, name, home_of(), quantization, for_elsewhere=for_elsewhere, progress=show)
    _tell(card.alias, asdict(card), as_json)


def local_model(home: Path, model: str) -> str:
    """Return the alias of a model; of one that is named by a .gguf file, after that was converted, if it is not yet.

    Raise ConfigurationError if there is no such file, or if its alias is that of a model that was made of another.
    """
    path = Path(model).expanduser()
    if path.suffix.lower() != ".gguf":
        return model

    if not path.is_file():
        raise ConfigurationError(f"{model} does not exist: give a .gguf file, or the name of a model")
    alias = alias_of(path.name)
    with _progress(alias) as show:
        show(f"verifying {path.name}", 0.0)
        if not is_made_of(home, alias, path):
            make(str(path), alias, home, progress=show)
    return alias


def show_size(size: int) -> str:
    """Return a size in bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def enter_models(home: Path, names: Sequence[str]) -> list[str]:
    """Return the aliases of these models. One that is named by its address is written into the home's catalogue.

    Raise ConfigurationError if its alias means another model here.
    """
    aliases = []
    for name in names:
        if (address := parse_address(name)) is None:
            aliases.append(name)
            continue
        need_client(address.engine, address.alias)  # before anything is written
        if (entry := enter_model(home, address)) is not None:
            say(f"Added to {home / CATALOGUE_FILE}; change what is not right, such as context_length:")
            say("  " + entry.rstrip().replace("\n", "\n  "))
        say(f"Jobs name this model {address.alias}.")
        if (provider := read_catalogue(home).models[address.alias].provider) != OWN:
            say(f"Allow it for a tenant: `headrace providers allow default {provider}`")
        aliases.append(address.alias)
    return aliases


def ensure_models(home: Path, aliases: Sequence[str]) -> None:
    """Pull the models that are not here and can be pulled. Raise UnknownModel, which names the ways to get the others.

    An embedder does not count, since it answers no job. `echo` is made here: it answers with the question's words.
    Raise ConfigurationError if the client of a model's provider is not installed.
    """
    registry = Registry(home)
    if ECHO in aliases and ECHO not in registry:
        make_echo_model(home)
        registry = Registry(home)
    for alias in aliases:
        if alias in registry and registry.get(alias).remote is not None:
            need_client(registry.get(alias).engine, alias)
    missing = [alias for alias in aliases if alias not in registry]
    generators, embedders = _pullable("generator"), {*_pullable("embedder")}
    if strange := [alias for alias in missing if alias not in generators]:
        embedders |= {card.alias for card in list_cards(home) if card.kind == "embedder"}
        known = ", ".join(registry.aliases()) or "none"
        wrong = (
            f"{strange[0]} is an embedder: it turns texts into vectors and answers no job"
            if strange[0] in embedders
            else f"no model is called {strange[0]!r}"
        )
        raise UnknownModel(
            f"{wrong}; here are: {known}. `headrace models pull` gets {', '.join(generators)}, and `headrace models "
            "convert SOURCE` any other"
        )

    for alias in missing:
        with _progress(alias) as show:
            get(alias, home, progress=show)


def ensure_embedder(home: Path, name: str) -> None:
    """Pull the embedder that HEADRACE_EMBEDDER names if it is not here and can be pulled.

    If it cannot be pulled, the jobs that need it say so.
    """
    if name in _pullable("embedder") and not (models_dir(home) / name / CARD_FILE).is_file():
        with _progress(name) as show:
            get(name, home, progress=show)


def _pullable(kind: Kind) -> list[str]:
    return pullable(kind)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[str, float], None]]:
    """Show a bar on a terminal, a line for each part elsewhere."""
    terminal = console()
    if not terminal.is_terminal:
        last = ""

        def tell(doing: str, _done: float) -> None:
            nonlocal last
            if doing != last:
                last = doing
                say(f"{name}: {doing}")

        yield tell
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.fields[name]}: {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=terminal) as bar:
        task = bar.add_task("", total=1.0, name=name)
        yield lambda doing, done: bar.update(task, description=doing, completed=done)


def _tell(alias: str, card: dict[str, object], as_json: bool) -> None:
    if as_json:
        put_json(card)
    else:
        put(alias)
        say(f"in {home_of() / 'models' / alias}")


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
    store = need_ledger().of(Breakers)
    health, calls = store.all(), store.calls(minutes)
    names = sorted({*Registry(home_of()).aliases(), *health, *calls})
    entries = [status_of(name, health.get(name), calls.get(name), minutes) for name in names]
    if as_json:
        for entry in entries:
            put_json(entry)
    elif entries:
        columns = ("model", "breaker", "asked again in", "calls/min", "failed", "mean", "slowest", "last failure")
        rows = [_status_row(entry) for entry in entries]
        console(data=True).print(table(None, columns, rows, right=columns[2:7], clip=("last failure",)))
    else:
        say(f"no models in {home_of()}, and no call of one in the last {minutes} minutes")


def resume(model: Annotated[str, typer.Argument(help="the model that may be asked again")]) -> None:
    """Ask a model again now: close its breaker, end the pause of its provider's key, and run the jobs that wait for it.

    A provider that asks for a long pause, with `Retry-After`, may be back before that. Other models with the same key
    may be asked again, too; name each whose jobs wait.

    Example: `headrace models resume large`
    """
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


def _end_pause(remote: RemoteModel) -> None:
    """End the pause of a model's key. Raise an error where the workers' Redis does not answer, or is not known."""
    url = find_redis_url()
    if url is None:
        raise ConfigurationError("set HEADRACE_REDIS: the workers keep the pauses of their providers' keys there")
    with redis_client(url) as client:
        if not CallRates(remote, client, RedisNames(topic_prefix()).calls(key_of(remote))).resume():
            raise Unavailable("Redis does not answer, where the workers keep the pauses of their providers' keys")


def status_of(name: str, health: Health | None, calls: Calls | None, minutes: int) -> dict[str, Any]:
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
        "open_for_tenants": sorted(breaker.singled_out()) if breaker else [],
        "drill": health.drill if health else None,
        "last_failure": breaker.reason if breaker else None,
        "minutes": minutes,
        "calls": count,
        "calls_per_minute": round(count / minutes, 2),
        "failures": failures,
        "mean_ms": round(calls.ms / answered, 1) if calls and answered else None,
        "slowest_ms": calls.slowest_ms if calls and answered else None,
    }


def _status_row(each: Mapping[str, Any]) -> tuple[str, ...]:
    share = f"{100 * each['failures'] / each['calls']:.0f} %" if each["calls"] else "–"
    return (
        each["model"],
        _breaker_words(each),
        show_ms(each["asked_again_in_ms"]) if each["asked_again_in_ms"] else "–",
        f"{each['calls_per_minute']:g}",
        share,
        show_ms(each["mean_ms"]),
        show_ms(each["slowest_ms"]),
        each["last_failure"] or "–",
    )


def _breaker_words(each: Mapping[str, Any]) -> str:
    alone, drill = len(each["open_for_tenants"]), each["drill"]
    tenants = f", open for {alone} tenant{'s' if alone > 1 else ''}" if alone else ""
    state = str(each["breaker"]).replace("_", " ")
    return state + tenants + (f", drill: {drill}" if drill else "")
