"""Names of a deployment's keys in Redis. All carry its prefix, as its topics do: several deployments may share one
Redis.
"""

from dataclasses import dataclass
from typing import Final, Literal

# Each has a Redis list of its own, by its priority, and workers look at them in this order. `ahead` is batch work that
# was overtaken long enough.
Line = Literal["ahead", "interactive", "batch"]
PRIORITIES: Final[dict[Line, int]] = {"ahead": 0, "interactive": 3, "batch": 9}
_SEPARATOR = "\x06\x16"  # kombu's, between a queue's name and its priority


@dataclass(frozen=True, slots=True)
class RedisNames:
    """The names of one deployment."""

    prefix: str

    def queue(self, queue: str) -> str:
        """Return a queue of claims, as Celery knows it."""
        return f"{self.prefix}{queue}"

    def line(self, queue: str, line: Line) -> str:
        """Return the list that holds one line of a queue."""
        priority = PRIORITIES[line]
        return f"{self.queue(queue)}{_SEPARATOR}{priority}" if priority else self.queue(queue)

    @property
    def hints(self) -> str:
        """Return the channel of hints."""
        return f"{self.prefix}wake"

    def rate(self, tenant: str) -> str:
        """Return the bucket that says how often a tenant may still ask."""
        return f"{self.prefix}rate:{tenant}"

    def calls(self, key: str) -> str:
        """Return the rates at which a provider's key is used."""
        return f"{self.prefix}calls:{key}"

    def listens(self, queue: str) -> str:
        """Return the key that is there while a worker listens to a queue."""
        return f"{self.prefix}listens:{queue}"
