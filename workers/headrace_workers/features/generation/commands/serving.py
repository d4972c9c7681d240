"""A stack to work with: the one that runs already, or one of our own for as long as it is needed."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from headrace_schemas.errors import ConfigurationError, HeadraceError, Unavailable, UnknownModel
from headrace_workers.cli.children import children_of
from headrace_workers.cli.connections import running
from headrace_workers.cli.interrupts import TERMINATED
from headrace_workers.cli.output import say
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.migrate import migrate
from headrace_workers.core.sql.database import connect
from headrace_workers.features.generation.commands.models import ensure_embedder, ensure_models
from headrace_workers.models.registry import Registry, readable_catalogue
from headrace_workers.models.verifiers.measured import refuse_untrusted
from headrace_workers.runtime.embedded.broker import Kind
from headrace_workers.runtime.embedded.stack import Stack
from headrace_workers.runtime.embedded.supervise import Done
from headrace_workers.runtime.settings import ModelSettings, home_of, names_a_deployment


class Serving(Protocol):
    """A stack that does the work while a command waits."""

    def check(self) -> None:
        """Look after the stack. Raise if it can work no more."""


@dataclass(frozen=True, slots=True)
class JoinedStack:
    """The stack of another process, known by its id."""

    pid: int

    def check(self) -> None:
        """Raise Unavailable if the stack was stopped."""
        stack = running()
        if stack is None or stack.pid != self.pid:
            raise Unavailable("the stack that was used has stopped; run the same command again, and it goes on")


class Elsewhere:
    """A deployment that is not looked after from here."""

    def check(self) -> None:
        """Do nothing: other people look after it."""


def embedded_stack(
    home: Path,
    models: Sequence[str],
    engine_threads: int | None = None,
    broker: Kind | None = None,
    gateway_port: int | None = None,
    served: Callable[[], Sequence[str]] | None = None,
) -> Stack:
    """Return a stack of this home that serves these models, not started yet; with a gateway if it is given a port.
    While it runs it serves what `served` returns, where that is given.

    A stack with a gateway asks all models of the catalogue. Raise ConfigurationError if HEADRACE_JUDGE_MODEL failed
    its probe.
    """
    settings = ModelSettings.from_env()
    judge_model = settings.judge_model
    if not settings.accept_untrusted:
        refuse_untrusted(home, judge_model)
    return Stack(
        home,
        children_of(
            home,
            served or (lambda: models),
            named=models,
            elsewhere=models_elsewhere(home, models, all_of_them=gateway_port is not None),
            judge_model=judge_model,
            engine_threads=engine_threads,
            gateway_port=gateway_port,
        ),
        _migrate,
        own=_own,
        done=_done,
        broker=broker,
        progress=lambda name: say(f"starting {name}"),
        model=models[0] if models else "",
    )


def models_elsewhere(home: Path, models: Sequence[str], *, all_of_them: bool) -> set[str] | None:
    """Return the models among these that other machines run; None where no worker is to ask any. `all_of_them`: also
    those of the catalogue that are not among these are to be asked.
    """
    entries = readable_catalogue(home).models.keys()
    named = set(models) & entries
    return named if named or (all_of_them and entries) else None


def need_models(aliases: Sequence[str]) -> None:
    """Raise UnknownModel if the stack of this home lacks one of these models: its jobs would be refused."""
    stack, registry = running(), Registry(home_of())
    missing = [alias for alias in aliases if alias not in registry]
    if stack is not None and missing:
        known = ", ".join(registry.aliases()) or "none"
        raise UnknownModel(
            f"the stack that runs (process {stack.pid}) has no model {missing[0]!r}: it has {known}. Nothing was "
            f"asked: name one of these, or stop it and start it with `headrace up --model {missing[0]}`"
        )


@contextmanager
def serving(
    home: Path, models: Sequence[str], *, embedder: str | None, start: bool, engine_threads: int | None
) -> Iterator[Serving]:
    """Use the stack that runs in this home, else start one and stop it at the end. An `embedder` is pulled if named.

    With `start` false nothing is started: without a running stack the environment must name the deployment.
    """
    stack = running()
    if stack is not None:
        say(f"using the running stack (process {stack.pid})")
        yield JoinedStack(stack.pid)
    elif not start:
        if not names_a_deployment():
            raise ConfigurationError("--no-start needs a running `headrace up`, or HEADRACE_KAFKA and HEADRACE_LEDGER")
        yield Elsewhere()
    else:
        ensure_models(home, models)
        if embedder is not None:
            ensure_embedder(home, embedder)
        with embedded_stack(home, models, engine_threads) as own:
            yield own


@contextmanager
def ends_on_sigterm() -> Iterator[None]:
    """End the block on SIGTERM as an exception does, so that processes that it started are stopped. Exit code 143."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _done(url: str) -> Done | None:
    try:
        ledger = Ledger.at(url)
        try:
            return Done(*ledger.ended_jobs())
        finally:
            ledger.close()
    except HeadraceError:  # then nothing is known of it, and the crash counts
        return None


def _own(url: str) -> None:
    """Forget which broker and prefix the ledger belongs to: a home may change both from one start to the next."""
    ledger = Ledger.at(url)
    try:
        ledger.deployment.forget()
    finally:
        ledger.close()


def _migrate(url: str) -> None:
    engine = connect(url)
    try:
        migrate(engine)
    finally:
        engine.dispose()
