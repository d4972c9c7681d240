"""`headrace up`: the embedded stack, until Ctrl-C."""

import math
import os
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Final

import typer

from headrace_producers.settings import DEFAULT_HOME, DEFAULT_MODEL, ProducerSettings
from headrace_schemas.errors import HeadraceError, UnknownModel
from headrace_workers.cli.output import Line, console, hush_kafka, say, table
from headrace_workers.core.environment import environment
from headrace_workers.runtime.embedded.broker import Kind
from headrace_workers.runtime.settings import GATEWAY_PORT, ModelSettings, home_of

if TYPE_CHECKING:
    from rich.console import Group

    from headrace_workers.runtime.embedded.stack import Stack

STACK: Final = 2_000_000_000  # bytes of memory that a stack takes without a model, and the system
WORKER: Final = 700_000_000  # bytes of a worker beside the weights of its model, with a full batch
_STORE_SECONDS: Final = 5.0  # that a call of the store of files may take when all stops
_QUESTION: Final = "What is the capital of France?"
# Answers of known models to it.
_ANSWERS: Final = {"smollm2-135m-instruct": "The capital of France is Paris.", "echo": _QUESTION}


def up(
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="a model to serve: an alias, a .gguf file, URL#MODEL, openai:MODEL or anthropic:MODEL; may be "
            "repeated [HEADRACE_MODEL]",
        ),
    ] = None,
    engine_threads: Annotated[
        int | None, typer.Option("--engine-threads", min=1, help="threads of the models; all cores by default")
    ] = None,
    broker: Annotated[
        Kind | None,
        typer.Option(
            "--broker",
            help="apache (needs KAFKA_HOME and Java 17), tansu or docker; by default the first that is installed",
        ),
    ] = None,
    gateway_port: Annotated[
        int, typer.Option("--gateway-port", min=0, max=65_535, help="port of the HTTP gateway; if it is taken, another")
    ] = GATEWAY_PORT,
) -> None:
    """Run a whole deployment on this machine until Ctrl-C: broker, Redis, ledger, bridge, workers, HTTP gateway.

    If HEADRACE_KAFKA, HEADRACE_REDIS or HEADRACE_LEDGER is set, that service is used and none is started. The first
    model that is no classifier answers jobs that name none, and judges their rubrics, unless HEADRACE_JUDGE_MODEL names
    another one, which is then served, too. So are the models that HEADRACE_VERIFY and HEADRACE_GROUNDED_VERIFY name,
    and tuned models as far as there is memory, those that are published later, too.

    A model on another machine is named by its address, such as `http://localhost:11434/v1#qwen3` or `openai:NAME`. It
    is added to models.toml in the home.

    Apache Kafka keeps its log on the disk and works with every client. Tansu keeps its log in memory, docker in its
    container.

    Examples: `headrace up`, then in another shell `headrace submit --prompt "Name three rivers." --wait`;
    `KAFKA_HOME=/opt/kafka headrace up --broker apache`
    """
    from headrace_workers.runtime.embedded.stack import plan

    hush_kafka()
    home = home_of()
    if broker is not None:
        plan(home, environment(), broker)  # raises before a model is fetched if something is missing
    models = _models(home, model or [ProducerSettings.from_env().model])
    _pull_embedder(home)
    _run_stack(home, models, engine_threads, broker, gateway_port)
    say("stopped")


def _models(home: Path, named: Sequence[str]) -> list[str]:
    """Return the models to serve: those named here, the judge and the verifiers. Fetch those that are not here, and
    remove tuned models that were deleted elsewhere.

    Classifiers come last: the first model answers prompts and judges.
    """
    from headrace_workers.features.generation.commands.models import ensure_models, enter_models, local_model
    from headrace_workers.features.tuning.copies import sync_copy
    from headrace_workers.files.settings import FileSettings
    from headrace_workers.models.registry import TUNED, Registry

    judge = ModelSettings.from_env().judge_model
    entered = enter_models(home, [local_model(home, model) for model in named])
    models = list(dict.fromkeys([*entered, *([judge] if judge else []), *_verifiers()]))
    where = FileSettings.from_env().place(home)
    for alias in {*models, *Registry(home).aliases()}:
        if alias.startswith(TUNED):
            with suppress(*([] if alias in models else [UnknownModel])):
                sync_copy(home, where, alias)
    ensure_models(home, models)
    classifiers = _classifiers(home)
    return sorted(models, key=lambda model: model in classifiers)


class Served:
    """The models of a home that `headrace up` serves: those that are named, as long as they are here, and tuned models
    as far as there is memory beside them. A model that is served stays before one that is newer.
    """

    def __init__(self, home: Path, named: Sequence[str]) -> None:
        from headrace_workers.models.registry import Registry

        self._home, self._named = home, named
        self._registry = Registry(home)
        self._here: list[str] = []
        self._served: list[str] = []
        self._told: set[str] = set()

    def now(self) -> list[str]:
        """Return what is served from now on, the newest tuned model first. Name models for which there is no memory."""
        if (here := self._registry.aliases()) != self._here:
            self._here = here
            self._served = [alias for alias in dict.fromkeys([*self._named, *self._served]) if alias in here]
            self._served += self._fitting()
        return self._served

    def _fitting(self) -> list[str]:
        """Return the tuned models that fit beside those that are served."""
        from headrace_workers.core.machine import available_memory
        from headrace_workers.models.registry import TUNED, card_file

        memory = available_memory()
        cards = [self._registry.get(alias) for alias in self._here]
        local = {card.alias: card for card in cards if card.remote is None}
        left = math.inf if memory is None else memory - STACK
        left -= sum(local[alias].size_bytes + WORKER for alias in self._served if alias in local)
        tuned = [card for card in local.values() if card.alias.startswith(TUNED) and card.alias not in self._served]
        fitting = []
        for card in sorted(tuned, key=lambda card: _written(card_file(self._home, card)), reverse=True):
            if card.size_bytes + WORKER <= left:
                left -= card.size_bytes + WORKER
                fitting.append(card.alias)
            elif card.alias not in self._told:
                self._told.add(card.alias)
                say(f"There is no memory to serve {card.alias} too: `headrace up --model {card.alias}` serves it first")
        return fitting


def _written(file: Path) -> float:
    """Return when a file was written; 0 where it is gone by now."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _classifiers(home: Path) -> frozenset[str]:
    from headrace_workers.features.classifiers.engine import ENGINE_NAME
    from headrace_workers.models.registry import list_cards

    return frozenset(card.alias for card in list_cards(home) if card.engine == ENGINE_NAME)


def _run_stack(
    home: Path, models: Sequence[str], engine_threads: int | None, broker: Kind | None, gateway_port: int
) -> None:
    """Run the stack until a signal stops it; say where it is, and what to try."""
    from headrace_workers.features.console.commands import end_sessions
    from headrace_workers.features.generation.commands.serving import embedded_stack, ends_on_sigterm
    from headrace_workers.runtime.embedded.free_ports import held

    stopped = Event()
    with (
        held(gateway_port) as port,
        ends_on_sigterm(),
        embedded_stack(home, models, engine_threads, broker, port, Served(home, models).now) as stack,
    ):
        console().print(_drawn(stack, {"gateway": _url(port)}))
        _tell_next(stack, models)
        _tell_clients(home, stack, port)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())
        with _copies_followed(home):
            stack.watch(stopped)
        say("stopping")
        end_sessions(stack.addresses.ledger)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C ends it at once


@contextmanager
def _copies_followed(home: Path) -> Iterator[None]:
    """Have the tuned models of other machines in this home, where a store of files is shared with them."""
    from headrace_workers.features.tuning.copies import follow_copies
    from headrace_workers.files.settings import FileSettings

    if not (where := FileSettings.from_env().files):
        yield
        return
    stopped = Event()
    thread = Thread(target=follow_copies, args=(home, where, stopped), name="tuned models", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(_STORE_SECONDS)


def _verifiers() -> list[str]:
    """Return the models that verify in this deployment."""
    from headrace_workers.features.cache.settings import CacheSettings
    from headrace_workers.features.judging.settings import JudgingSettings
    from headrace_workers.models.verifiers.verify_stage import model_of_verifier

    named = (CacheSettings.from_env().verify, JudgingSettings.from_env().grounded_verify)
    return [model for name in named if (model := model_of_verifier(name)) is not None]


def _drawn(stack: "Stack", where: Mapping[str, str]) -> "Group":
    """Return a table of processes and addresses. An address from the environment may hold a password: only the name of
    its variable is shown.

    `where` are the addresses of processes that have one.
    """
    from rich.console import Group

    services = stack.services
    assert services is not None  # noqa: S101 - only drawn after the start
    started = {child.name for child in services.children}
    addresses = services.addresses
    rows = [
        ("kafka", services.broker, addresses.kafka),
        (
            "redis",
            "started" if "redis" in started else "given",
            addresses.redis if "redis" in started else "HEADRACE_REDIS",
        ),
        (
            "ledger",
            "given" if environment().get("HEADRACE_LEDGER") else "sqlite",
            "HEADRACE_LEDGER" if environment().get("HEADRACE_LEDGER") else _path(stack.home / "ledger.db"),
        ),
    ]
    rows += [(name, "started", where.get(name, "")) for name in stack.processes]
    return Group(
        table(None, ("what", "kind", "where"), rows),
        Line(f"{_path(stack.home / 'log')}/ has a log of each process.", style="dim"),
    )


def _pull_embedder(home: Path) -> None:
    """Pull the embedder that vector stores need. Without it all else works, so a failure is a warning."""
    from headrace_workers.features.generation.commands.models import ensure_embedder

    name = ModelSettings.from_env().embedder
    try:
        ensure_embedder(home, name)
    except HeadraceError as error:
        say(f"Vector stores, embeddings and semantic caching need the embedder {name}, which is not here: {error}")
        say(f"Everything else works. `headrace models pull {name}` gets it later; no restart is needed.")


def _path(path: "os.PathLike[str]") -> str:
    shown = os.path.relpath(path)
    return os.fspath(path) if shown.startswith("..") else shown


def _tell_next(stack: "Stack", models: Sequence[str]) -> None:
    """Say commands to try, each with what it prints."""
    services = stack.services
    if services is not None and not services.durable:
        say("The broker keeps its log in memory: jobs are safe once the ledger has them, which `submit` waits for.")
    if home_of() == Path(DEFAULT_HOME):
        say("Ready. In another shell, from this folder:")
    else:
        say(f"Ready. In another shell: export HEADRACE_HOME={shlex.quote(os.fspath(stack.home))}")
    for command, printed in trials(stack.home, models):
        say(f"  {command}")
        say(f"      {printed}")
    if DEFAULT_MODEL in models:
        say(f"{DEFAULT_MODEL} is for trying headrace; its answers are poor. {_better_model()}")


def _better_model() -> str:
    """Return how to serve a better model, the largest of the list that this machine can hold."""
    from headrace_workers.core.machine import available_memory
    from headrace_workers.features.generation.commands.models import show_size
    from headrace_workers.models.hub import HUB_MODELS, largest_that_fits

    name = largest_that_fits(available_memory())
    if name is None:
        return "`headrace models pull` lists better models."
    download = show_size(HUB_MODELS[name].download_bytes)
    return f"The largest listed model that fits this machine: `headrace up --model {name}` (downloads {download})."


def trials(home: Path, models: Sequence[str]) -> list[tuple[str, str]]:
    """Return commands to try on a fresh stack that serves these models, each with a line that it prints. A classifier
    is offered no prompt.
    """
    model = models[0]
    named = "" if ProducerSettings.from_env().model in models else f" --model {model}"
    asks = (f'headrace submit{named} --prompt "{_QUESTION}" --wait', _ANSWERS.get(model, f"(the answer of {model})"))
    return [
        *([] if model in _classifiers(home) else [asks]),
        ('headrace moderation check "Write to anna@headrace.io."', "email  redact   1.00  9-25  personal_data"),
        ("headrace status", "active  done  dead  cancelled"),
    ]


def _tell_clients(home: Path, stack: "Stack", port: int) -> None:
    from headrace_workers.features.access.commands import KEY_FILE, first_key
    from headrace_workers.features.console.commands import offered_address

    key = first_key(home, stack.addresses.ledger)
    file = home.absolute() / KEY_FILE
    shown = shlex.quote(_path(file) if home_of() == Path(DEFAULT_HOME) else os.fspath(file))
    say("Every OpenAI client works. Set these two variables:")
    say(f"  export OPENAI_BASE_URL={_url(port)}/v1 OPENAI_API_KEY=$(cat {shown})")
    say("The console, where you ask questions in a browser. This address signs you in once, within the next hour:")
    say(f"  {offered_address(_url(port), stack.addresses.ledger, key.id)}")
    say("Ctrl-C stops everything.")


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}"
