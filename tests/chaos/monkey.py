"""Random faults, one after the other, from a seed; what was broken is mended a moment later, as a supervisor would."""

import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import redis as redis_client
from tests.chaos.deployment import Deployment
from tests.chaos.servers import Servers

_DOWN = 0.5  # seconds until what was killed is started again
_PAUSED = 5.0  # seconds that a stopped worker sleeps: longer than its lease

Repair = Callable[[], None]


class Monkey:
    """Strikes. Belongs to the thread that started the processes."""

    def __init__(self, servers: Servers, deployment: Deployment, seed: int) -> None:
        self._servers = servers
        self._deployment = deployment
        self._random = random.Random(seed)
        self._repairs: dict[str, tuple[float, Repair]] = {}  # what is broken: when it is mended, and how
        self._counts: Counter[str] = Counter()
        self.last = ""

    @property
    def struck(self) -> int:
        """How many faults there were."""
        return self._counts.total()

    def summary(self) -> str:
        """How often each fault."""
        faults = ", ".join(f"{name} {count}" for name, count in sorted(self._counts.items()))
        return f"faults: {self.struck} ({faults})"

    def strike(self) -> None:
        """One random fault, among those whose target is whole."""
        targets = [name for name in self._targets() if name not in self._repairs]
        if not targets:
            return
        target = self._random.choice(targets)
        fault = "paused" if target in self._workers() and self._random.random() < 0.2 else "killed"
        self.last = f"{target} {fault}"
        self._counts[self.last] += 1
        getattr(self, "_pause" if fault == "paused" else "_kill")(target)

    def mend(self) -> None:
        """Bring back what has been broken long enough."""
        now = time.monotonic()
        for target, (due, repair) in list(self._repairs.items()):
            if now >= due:
                del self._repairs[target]
                repair()
        # Who ended by itself, because a service was away when it started, say.
        self._deployment.revive(but=self._repairs)

    def calm(self) -> None:
        """Bring back everything."""
        for _, repair in self._repairs.values():
            repair()
        self._repairs.clear()
        self._deployment.revive()

    def _targets(self) -> list[str]:
        servers = [
            "redis",
            *(["broker"] if self._servers.durable else []),
            *(["postgres"] if self._servers.postgres else []),
        ]
        return [*self._deployment.children, *servers]

    def _workers(self) -> list[str]:
        return [name for name in self._deployment.children if not name.startswith("bridge")]

    def _kill(self, target: str) -> None:
        if target in self._deployment.children:
            self._deployment.kill(target)
            self._later(target, _DOWN, lambda: self._deployment.start(target))
            return
        server = {"redis": self._servers.redis, "broker": self._servers.broker, "postgres": self._servers.postgres}[
            target
        ]
        assert server is not None
        if target == "redis":
            with (
                contextlib.suppress(redis_client.RedisError),
                redis_client.Redis.from_url(self._servers.redis.url) as client,
            ):
                client.flushall()
        server.kill()
        self._later(target, _DOWN, server.restart)

    def _pause(self, target: str) -> None:
        self._deployment.signal(target, signal.SIGSTOP)
        self._later(target, _PAUSED, lambda: self._deployment.signal(target, signal.SIGCONT))

    def _later(self, target: str, seconds: float, repair: Repair) -> None:
        self._repairs[target] = (time.monotonic() + seconds, repair)
