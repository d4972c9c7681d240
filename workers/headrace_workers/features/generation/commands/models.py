"""`headrace models`: which models are here, and getting more."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace_schemas.aliases import alias_of, embedder_alias
from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_workers.cli.output import console, put, put_json, say, table
from headrace_workers.runtime.settings import ModelSettings, home_of

if TYPE_CHECKING:
    from headrace_workers.features.generation.engines.engine import Kind

_QuantizationOption = Annotated[str, typer.Option("--quantization", "-q", help="int8, float32, float16, …")]
_ElsewhereOption = Annotated[
    bool, typer.Option("--for-elsewhere", help="also allow a format that only other machines compute in")
]
_JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
_DEFAULT_QUANTIZATION = "int8"
ECHO = "echo"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    models = typer.Typer(help="Manage the models of this machine.", no_args_is_help=True)
    models.command("list")(list_models)
    models.command("pull")(pull)
    models.command("convert")(convert)
    app.add_typer(models, name="models")


def list_models(as_json: _JsonOption = False) -> None:
    """List the models under HEADRACE_HOME, and the embedder that jobs may name.

    Example: `headrace models list`
    """
    from headrace_workers.features.generation.models.registry import list_cards

    cards = list_cards(home_of())
    if as_json:
        for card in cards:
            put_json(asdict(card))
    elif cards:
        rows = [
            (card.alias, card.kind, card.number_format, f"{card.context_length:,}", show_size(card.size_bytes),
             card.licence, card.source.split("#")[0])
            for card in cards
        ]  # fmt: skip
        columns = ("model", "kind", "quantization", "context", "size", "licence", "source")
        console(data=True).print(table(None, columns, rows, right=("context", "size")))
        say(embedder_line(ModelSettings.from_env().embedder, {card.alias for card in cards if card.kind == "embedder"}))
    else:
        say(f"no models in {home_of() / 'models'}: `headrace models pull {_pullable('generator')[0]}` gets one")


def embedder_line(name: str, here: Collection[str]) -> str:
    """Return which embedder jobs may name, if HEADRACE_EMBEDDER says `name` and these embedders are here."""
    alias = embedder_alias(name)
    if alias == name and name not in here:
        way = "pull" if name in _pullable("embedder") else "convert SOURCE --alias"
        return f"embedding jobs name {alias}, which is not here: `headrace models {way} {name}` gets it"
    return f"embedding jobs name {alias}" + ("" if alias == name else f", for {name}")


def pull(
    name: Annotated[str, typer.Argument(help="a model of the catalogue, e.g. smollm2-135m-instruct")],
    quantization: _QuantizationOption = _DEFAULT_QUANTIZATION,
    for_elsewhere: _ElsewhereOption = False,
    as_json: _JsonOption = False,
) -> None:
    """Download a model, verify it and convert it. If it is here already, nothing happens.

    all-minilm-l6-v2 is an embedder, for the cache, knowledge bases and embedding jobs.

    Example: `headrace models pull smollm2-135m-instruct`
    """
    from headrace_workers.features.generation.models.pull import pull as get

    with _progress(name) as show:
        card = get(name, home_of(), quantization, for_elsewhere=for_elsewhere, progress=show)
    _tell(card.alias, asdict(card), as_json)


def convert(
    source: Annotated[str, typer.Argument(help="a Transformers folder, a .gguf file, or a hub id (owner/name)")],
    alias: Annotated[str | None, typer.Option("--alias", help="its name; by default derived from SOURCE")] = None,
    quantization: _QuantizationOption = _DEFAULT_QUANTIZATION,
    for_elsewhere: _ElsewhereOption = False,
    as_json: _JsonOption = False,
) -> None:
    """Convert a model of your own. A .gguf of the architecture llama or qwen2 needs no torch; others need headrace[convert].

    A sentence-transformers folder becomes an embedder (BERT with mean pooling), and needs no torch either.

    Example: `headrace models convert ./my-model --alias my-model --quantization int8`
    """
    from headrace_workers.features.generation.models.convert import convert as make

    if not Path(source).exists() and not _HUB_ID.fullmatch(source):
        raise ConfigurationError(f"{source} is neither a folder, a .gguf file nor a hub id (owner/name)")
    name = alias or alias_of(source)
    with console().status(f"converting {source} to {name} ({quantization})"):
        card = make(source, name, home_of(), quantization, for_elsewhere=for_elsewhere)
    _tell(card.alias, asdict(card), as_json)


def show_size(size: int) -> str:
    """Return a size in bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def ensure_models(home: Path, aliases: Sequence[str]) -> None:
    """Pull the models that are not here and can be pulled. Raise UnknownModel, which names the ways to get the others.

    An embedder does not count, since it answers no job. `echo` is made here: it answers with the question's words.
    """
    from headrace_workers.features.generation.models.registry import Registry, list_cards

    registry = Registry(home)
    if ECHO in aliases and ECHO not in registry:
        from headrace_workers.features.generation.engines.echo import make_echo_model

        make_echo_model(home)
        registry = Registry(home)
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
    from headrace_workers.features.generation.models.pull import pull as get

    for alias in missing:
        with _progress(alias) as show:
            get(alias, home, progress=show)


def ensure_embedder(home: Path, name: str) -> None:
    """Pull the embedder that HEADRACE_EMBEDDER names if it is not here and can be pulled.

    If it cannot be pulled, the jobs that need it say so.
    """
    from headrace_workers.features.generation.models.pull import pull as get
    from headrace_workers.features.generation.models.registry import CARD_FILE, models_dir

    if name in _pullable("embedder") and not (models_dir(home) / name / CARD_FILE).is_file():
        with _progress(name) as show:
            get(name, home, progress=show)


def _pullable(kind: "Kind") -> list[str]:
    from headrace_workers.features.generation.models.pull import CATALOGUE

    return [name for name, model in CATALOGUE.items() if model.kind == kind]


@contextmanager
def _progress(name: str) -> Iterator[Callable[[str, float], None]]:
    """Show a bar on a terminal, a line for each part elsewhere."""
    terminal = console()
    if not terminal.is_terminal:
        yield lambda doing, _done: say(f"{name}: {doing}")
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
