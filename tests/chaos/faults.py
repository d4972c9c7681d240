"""The faults that there are: what each breaks, for how long, and how it is mended. Each is one value.

Kills come often; the grey ones, in which something is silent or refuses rather than dies, now and then.
"""

import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis as redis_client
from tests.chaos.deployment import Deployment
from tests.chaos.servers import Servers

_DOWN = 0.5  # seconds until what was killed is started again
_PAUSED = 5.0  # seconds that a stopped worker sleeps: longer than its lease
_SILENT = 8.0  # seconds of silence, of refusal, or of a wrong clock
_OFTEN, _SELDOM = 10, 1

_LIBFAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


@dataclass(frozen=True, slots=True)
class Fault:
    """`strike` breaks `target`, which has one fault at a time, and `mend` makes it whole after so many seconds."""

    name: str
    target: str
    seconds: float
    strike: Callable[[], object]
    mend: Callable[[], object]
    weight: int = _SELDOM


def faults_of(servers: Servers, deployment: Deployment) -> tuple[Fault, ...]:
    """Every fault that these servers can have."""
    return (
        *(_killed(deployment, name) for name in deployment.children),
        *(_paused(deployment, name) for name in deployment.children if not name.startswith("bridge")),
        *_of_redis(servers),
        *_of_the_broker(servers),
        *_of_postgres(servers, deployment),
        *_of_the_clock(deployment),
        *_of_sizes(servers, deployment),
    )


def _killed(deployment: Deployment, name: str) -> Fault:
    return Fault(f"{name} killed", name, _DOWN, lambda: deployment.kill(name), lambda: deployment.start(name), _OFTEN)


def _paused(deployment: Deployment, name: str) -> Fault:
    return Fault(
        f"{name} paused",
        name,
        _PAUSED,
        lambda: deployment.signal(name, signal.SIGSTOP),
        lambda: deployment.signal(name, signal.SIGCONT),
    )


def _of_redis(servers: Servers) -> tuple[Fault, ...]:
    def wipe_and_kill() -> None:
        with contextlib.suppress(redis_client.RedisError), redis_client.Redis.from_url(servers.redis.url) as client:
            client.flushall()
        servers.redis.kill()

    proxy = servers.redis_proxy
    return (
        Fault("redis wiped and killed", "redis", _DOWN, wipe_and_kill, servers.redis.restart, _OFTEN),
        Fault("redis half-open", "redis", _SILENT, proxy.swallow, proxy.heal),
        Fault("redis answers nothing", "redis", _SILENT, lambda: proxy.swallow("down"), proxy.heal),
    )


def _of_the_broker(servers: Servers) -> tuple[Fault, ...]:
    broker = servers.broker
    frozen = Fault("broker frozen", "broker", _SILENT, broker.freeze, broker.thaw)
    if not servers.durable:  # a kill would lose what nobody has promised to keep
        return (frozen,)
    return frozen, Fault("broker killed", "broker", _DOWN, broker.kill, broker.restart, _OFTEN)


def _of_postgres(servers: Servers, deployment: Deployment) -> tuple[Fault, ...]:
    server, proxy = servers.postgres, servers.postgres_proxy
    if server is None or proxy is None:
        return ()
    database = deployment.ledger.rpartition("/")[2]

    def read_only(on: bool) -> None:
        """As after a failover: what is connected is sent away, and finds a database that takes no writes."""
        with _administrator(server.url) as connection:
            connection.execute(
                f'ALTER DATABASE "{database}" SET default_transaction_read_only = {"on" if on else "off"}'
            )
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))

    return (
        Fault("postgres killed", "postgres", _DOWN, server.kill, server.restart, _OFTEN),
        Fault("postgres half-open", "postgres", _SILENT, proxy.swallow, proxy.heal),
        Fault("postgres answers nothing", "postgres", _SILENT, lambda: proxy.swallow("down"), proxy.heal),
        Fault("postgres read-only", "postgres", _SILENT, lambda: read_only(True), lambda: read_only(False)),
    )


def _administrator(url: str) -> Any:
    import psycopg

    return psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True, connect_timeout=60)


def _of_the_clock(deployment: Deployment) -> tuple[Fault, ...]:
    """The bridge's own clock is an hour ahead: needs libfaketime (Debian: faketime)."""
    if _LIBFAKETIME is None:
        return ()
    ahead = {"LD_PRELOAD": str(_LIBFAKETIME), "FAKETIME": "+1h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    def become(env: dict[str, str]) -> None:
        deployment.kill("bridge")
        deployment.extra["bridge"] = env
        deployment.start("bridge")

    return (Fault("bridge's clock an hour ahead", "bridge", _SILENT, lambda: become(ahead), lambda: become({})),)


def _of_sizes(servers: Servers, deployment: Deployment) -> tuple[Fault, ...]:
    """An event that its topic does not take: on a broker that minds."""
    if not servers.durable:
        return ()
    refuse, take = deployment.refuse_large_outputs, deployment.take_large_outputs
    return (Fault("an event too large", "sizes", _SILENT, refuse, take),)
