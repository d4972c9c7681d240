"""Processes of headrace under test: a bridge and workers by role, on given services."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.services import Services
from headrace_producers import KafkaSettings, Producer
from headrace_producers.admin import ensure_topics
from headrace_producers.kafka import KafkaSink
from headrace_workers.cli.children import LogWatch
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.scopes import all_scopes
from headrace_workers.features.access.commands import new_key
from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.runtime.embedded.child_processes import ChildSpec, start, stop

_READY = {"bridge": "the bridge runs", "worker": "ready for work", "gateway": "the gateway answers"}

# Two worker processes, as many as the peers get: one holds the model, the other moderates and judges.
TWO_WORKERS = {"generate": ["--role", "generate"], "moderate-judge": ["--role", "moderate", "--role", "judge"]}
# One process a role, for what each of them costs.
BY_ROLE = {"generate": ["--role", "generate"], "moderate": ["--role", "moderate"], "judge": ["--role", "judge"]}


@dataclass(frozen=True, slots=True)
class Deployment:
    """A running pipeline. `pids` has one process a name: `bridge`, and each worker by its own; `env` is theirs."""

    kafka: KafkaSettings
    ledger: str
    pids: Mapping[str, int]
    log: Path
    env: Mapping[str, str]

    def producer(self) -> Producer:
        """A producer with the defaults that a service has."""
        return Producer(KafkaSink(self.kafka))

    def door_key(self, tenant: str = "default") -> str:
        """A new key for its gateway, that may do all."""
        ledger = Ledger.at(self.ledger)
        try:
            token, kept = new_key(tenant, "of a bench", tuple(sorted(all_scopes())))
            ledger.of(ApiKeys).add(kept)
            return token.text
        finally:
            ledger.close()


@contextmanager
def deployment(
    services: Services,
    home: Path,
    models: list[str],
    workers: Mapping[str, list[str]],
    *,
    gateway: int | None = None,
    module: str = "headrace_workers",
    **env: str,
) -> Iterator[Deployment]:
    """Start a bridge and these workers on a new ledger and new topics, and stop them in the end.

    `home` holds the models. Each worker of the role generate is started once a model, or once if it has `--remote`.
    With `gateway` there is one at this port. `env` is added to the processes' environment; `module` is what they run.
    """
    services.empty_redis()
    kafka, ledger = services.new_kafka(), services.new_ledger()
    ensure_topics(kafka)
    full = _environment(services, kafka, ledger, home) | env
    log = services.folder / "log" / kafka.prefix.rstrip(".")
    with ExitStack() as stack:
        pids = {}
        commands = _commands(workers, models)
        if gateway is not None:
            commands["gateway"] = ["gateway", "--port", str(gateway)]
        for name, arguments in commands.items():
            child = start(_spec(name, module, arguments, log), log, env=full)
            stack.callback(stop, child)
            pids[name] = child.process.pid
        yield Deployment(kafka, ledger, pids, log, full)


def _commands(workers: Mapping[str, list[str]], models: list[str]) -> dict[str, list[str]]:
    commands: dict[str, list[str]] = {}
    for name, roles in workers.items():
        if "generate" in roles and "--remote" not in roles:
            for model in models:
                commands[f"{name}-{model}"] = ["worker", *roles, "--model", model]
        else:
            commands[name] = ["worker", *roles]
    return {**commands, "bridge": ["bridge"]}


def _spec(name: str, module: str, arguments: list[str], log: Path) -> ChildSpec:
    return ChildSpec(
        name=name,
        argv=(sys.executable, "-m", module, *arguments),
        ready=LogWatch(log / f"{name}.log", _READY[arguments[0]]).seen,
        ready_seconds=180.0,
        grace_seconds=30.0,
    )


def _environment(services: Services, kafka: KafkaSettings, ledger: str, home: Path) -> dict[str, str]:
    # What the caller's shell says about headrace is none of the bench's business.
    own = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return own | {
        "HEADRACE_HOME": str(home),
        "HEADRACE_KAFKA": kafka.address,
        "HEADRACE_KAFKA_GROUPS": "on" if kafka.groups else "off",
        "HEADRACE_TOPIC_PREFIX": kafka.prefix,
        "HEADRACE_REDIS": services.redis,
        "HEADRACE_LEDGER": ledger,
        "HEADRACE_SERVE_UNSHOWN": "true",  # benches measure serving, and no bound
    }
