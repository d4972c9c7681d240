"""A small production: bridges and workers as processes of their own over real services, to be killed at will."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from tests.chaos.history import may_be_written, query
from tests.services.eventually import pause_after
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer
from tests.services.warm import PROGRAM
from tests.services.warm import start as start_warm

import headrace_workers.wiring  # noqa: F401 - installs the features
from headrace_producers import KafkaSettings, Producer, ProducerSettings
from headrace_producers.admin import ensure_topics
from headrace_producers.kafka import KafkaSink
from headrace_schemas import GenerationJob, Sampling, Topic
from headrace_schemas.criteria import Length
from headrace_schemas.limits import MAX_EVENT_BYTES
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.migrate import migrate
from headrace_workers.core.sql.database import connect
from headrace_workers.runtime.embedded.child_processes import Child, ChildSpec, stop
from headrace_workers.testing import make_echo_model

MODEL = "echo"
ROLES: dict[str, tuple[str, ...]] = {
    "bridge": ("bridge",),
    "generate": ("worker", "--role", "generate", "--model", MODEL),
    "moderate": ("worker", "--role", "moderate"),
    "judge": ("worker", "--role", "judge"),
}

_PENDING = "SELECT (SELECT count(*) FROM jobs WHERE state = 'active'), (SELECT count(*) FROM outbox)"
_HELD = "SELECT (SELECT count(*) FROM claims), (SELECT count(*) FROM steps WHERE state = 'leased')"
_KNOWN = "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM dead_letters WHERE stage = 'ingest')"
_ENDED = "SELECT count(*) FROM jobs WHERE state <> 'active'"


LARGE = 60_000  # bytes, about, of the output of a large job


def large_job(key: str) -> GenerationJob:
    words = LARGE // len("river ")
    return GenerationJob(
        model=MODEL,
        prompt="river " * words + key,
        sampling=Sampling(max_tokens=words + 1),
        idempotency_key=key,
        criteria=(Length(min_words=1),),
    )


class NotQuiet(AssertionError):
    """Work is left after a time in which it should all have been done."""


@dataclass(kw_only=True)
class Deployment:
    """Addresses, and the processes that run over them, by name. Use it from the thread that lives longest.

    `lease` is in seconds: short by default, so that the work of the dead is soon taken up again.
    """

    kafka: str
    groups: bool = True  # whether the broker's consumer groups are used
    prefix: str
    redis: str
    ledger: str
    folder: Path
    watched: str = ""  # the ledger as those who watch reach it, where the processes go through a proxy
    lease: float | None = 2.0  # None: headrace's own
    children: dict[str, Child] = field(default_factory=dict)
    extra: dict[str, dict[str, str]] = field(default_factory=dict)  # what a process's environment has beside
    moderators: int = 0  # that were started so far
    program: Sequence[str] = PROGRAM
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: ROLES)  # what each role's command is
    begin: Callable[[ChildSpec, Path], Child] = start_warm  # how a process is started

    def __post_init__(self) -> None:
        self.watched = self.watched or self.ledger

    def prepare(self) -> None:
        ensure_topics(self.settings)
        engine = connect(self.watched)
        migrate(engine)
        engine.dispose()
        make_echo_model(self.folder)

    def refuse_large_outputs(self) -> None:
        """Let the topic of outputs take no large record, and make one."""
        self._limit_outputs(LARGE // 2)
        with self.producer(patience=5.0) as producer:
            producer.submit(large_job(str(uuid4())))

    def take_large_outputs(self) -> None:
        """Let it take what headrace lets it, and publish what was too large meanwhile."""
        self._limit_outputs(MAX_EVENT_BYTES + 65_536)
        ledger = Ledger.at(self.watched)
        ledger.retry_outbox()
        ledger.close()

    def _limit_outputs(self, size: int) -> None:
        name = self.settings.topic(Topic.OUTPUTS)
        admin = KafkaAdminClient(**self.settings.client_options())
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": str(size)})])
        admin.close()

    @property
    def settings(self) -> KafkaSettings:
        return replace(KafkaSettings.at(self.kafka, self.prefix), groups=self.groups)

    def producer(self, patience: float = 60.0) -> Producer:
        """A producer of jobs for the echo model, which waits so many seconds for a broker that is away."""
        sink = KafkaSink(self.settings, linger_ms=5, max_block=patience, delivery_timeout=patience)
        return Producer(sink, ProducerSettings(model=MODEL))

    # -- processes

    def start(self, *names: str) -> None:
        """Start these that do not run; a name is a role, or a role and a number: `bridge`, `bridge-2`."""
        for name in names or self.roles:
            if name not in self.children or not self.children[name].running:
                spec = ChildSpec(
                    name=name,
                    argv=[*self.program, *self._command(name)],
                    env=self._environment() | self.extra.get(name, {}),
                    grace_seconds=15,
                )
                self.children[name] = self.begin(spec, self.folder / "log")

    def _command(self, name: str) -> tuple[str, ...]:
        """Every second worker that moderates does the judging after it itself: both ways must hold."""
        role = name.partition("-")[0]
        self.moderators += role == "moderate"
        return self.roles[role] + (("--role", "judge") if role == "moderate" and self.moderators % 2 == 0 else ())

    def wake(self) -> None:
        """SIGCONT to all: a test that failed may have left one stopped."""
        for child in self.children.values():
            child.process.send_signal(signal.SIGCONT)

    def revive(self, but: Collection[str] = ()) -> None:
        """Start dead processes again, except for these."""
        for name in [name for name, child in self.children.items() if not child.running and name not in but]:
            self.start(name)

    def signal(self, name: str, number: signal.Signals) -> None:
        self.children[name].process.send_signal(number)

    def kill(self, name: str) -> None:
        self.signal(name, signal.SIGKILL)
        self.children[name].process.wait()

    def retire(self, name: str) -> None:
        stop(self.children.pop(name))

    def terminate(self, seconds: float = 120) -> dict[str, int]:
        """SIGTERM to all at once, and SIGCONT, to hear it; the exit code of each. AssertionError when one does not end
        in time.
        """
        for child in self.children.values():
            child.process.send_signal(signal.SIGTERM)
        self.wake()
        until = time.monotonic() + seconds
        codes: dict[str, int] = {}
        for name, child in self.children.items():
            while child.running:
                assert time.monotonic() < until, f"{name} has not ended {seconds:g} s after SIGTERM; see {child.log}"
                time.sleep(0.05)
            codes[name] = child.process.returncode
        return codes

    def close(self) -> None:
        for child in reversed(self.children.values()):
            if child.running:
                child.process.send_signal(signal.SIGCONT)
                child.process.kill()
                child.process.wait()
        self.children.clear()

    def catch_at_work(self, name: str, seconds: float = 120) -> int:
        """SIGSTOP a worker while it holds a claim that it has begun; the claim's id.

        It is stopped first and looked at then, so that the claim cannot end in between. One that was stopped while it
        wrote would keep its locks, on SQLite the whole file's: it goes on and is caught again.
        """
        pid = self.children[name].process.pid
        statement = f"SELECT id FROM claims WHERE started_at IS NOT NULL AND worker LIKE '%:{pid}:%'"
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if query(self.watched, statement)[0]:
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.03)  # whoever else was writing has ended
                if (held := query(self.watched, statement)[0]) and may_be_written(self.watched):
                    return int(held[0][0])
                os.kill(pid, signal.SIGCONT)
            time.sleep(0.002)
        raise NotQuiet(f"{name} was never seen at work within {seconds:g} s")

    # -- work

    def publish(self, prompts: Iterable[str], key: str, **fields: object) -> list[str]:
        """Publish one generation job a prompt, with idempotency keys `key`-0, `key`-1, …; their ids."""
        with self.producer() as producer:
            return [
                producer.generate(prompt=prompt, idempotency_key=f"{key}-{number}", **fields)  # type: ignore[arg-type]
                for number, prompt in enumerate(prompts)
            ]

    def ended(self) -> int:
        return int(query(self.watched, _ENDED)[0][0][0])

    def held(self) -> tuple[int, int]:
        """How many claims there are, and how many steps are leased."""
        row = query(self.watched, _HELD)[0][0]
        return int(row[0]), int(row[1])

    def wait_until(self, true: Callable[[], bool], what: str, seconds: float = 300) -> None:
        """Wait for something; NotQuiet names it when it does not come."""
        began = time.monotonic()
        while not true():
            waited = time.monotonic() - began
            if waited > seconds:
                raise NotQuiet(f"not within {seconds:g} s: {what}")
            time.sleep(pause_after(waited))

    def known(self, job_ids: Iterable[str]) -> set[str]:
        rows = query(self.watched, "SELECT id FROM jobs", "SELECT coalesce(job_id, refers_to) FROM dead_letters")
        return {row[0] for found in rows for row in found} & set(job_ids)

    def wait_quiet(self, job_ids: Iterable[str], seconds: float = 300, *, revive: bool = True) -> None:
        """Wait until the ledger knows these jobs, no job is active, nothing is held and the outbox is empty.

        Whoever dies meanwhile is started again. NotQuiet says what is left when the time is up.
        """
        missing, began = set(job_ids), time.monotonic()
        left = "nothing"
        while True:
            if revive:
                self.revive()
            with contextlib.suppress(*_AWAY):
                missing -= self.known(missing) if missing else set()
                pending, held = query(self.watched, _PENDING, _HELD)
                left = f"{len(missing)} unknown, {pending[0]} active and in the outbox, {held[0]} claims and leased"
                if not missing and not any(pending[0]) and not any(held[0]):
                    return
            waited = time.monotonic() - began
            if waited > seconds:
                raise NotQuiet(f"after {seconds:g} s there is work left: {left}; logs in {self.folder / 'log'}")
            time.sleep(pause_after(waited))

    def _environment(self) -> dict[str, str]:
        return {
            "HEADRACE_KAFKA": self.kafka,
            "HEADRACE_KAFKA_GROUPS": "on" if self.groups else "off",
            "HEADRACE_TOPIC_PREFIX": self.prefix,
            "HEADRACE_REDIS": self.redis,
            "HEADRACE_LEDGER": self.ledger,
            "HEADRACE_HOME": str(self.folder),
            **({"HEADRACE_LEASE": str(self.lease)} if self.lease else {}),
            "TMPDIR": str(self.folder),  # where processes show that they live: of this deployment alone
            "OMP_NUM_THREADS": "1",
        }


def over(
    broker: KafkaServer, redis: RedisServer, postgres: PostgresServer | None, folder: Path, what: str, **others: Any
) -> Deployment:
    """A deployment with a name and a folder of its own over these servers; its ledger is SQLite without PostgreSQL."""
    name = f"{what}{uuid4().hex[:8]}"
    home = folder / name
    home.mkdir()
    return Deployment(
        kafka=broker.address,
        groups=broker.broker.groups,
        prefix=f"{name}.",
        redis=redis.url,
        ledger=postgres.create_database(name) if postgres else f"sqlite:///{home / 'ledger.db'}",
        folder=home,
        **others,
    )


def _away() -> tuple[type[Exception], ...]:
    import sqlite3

    import psycopg

    return psycopg.OperationalError, sqlite3.OperationalError


_AWAY = _away()
