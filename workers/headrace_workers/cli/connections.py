"""The services that a command can reach: Kafka, and the ledger and Redis where their addresses are known."""

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from headrace_producers.settings import RUN_FILE, kafka_durable, running_stack, topic_prefix
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.environment import environment
from headrace_workers.runtime.settings import home_of, ledger_url

if TYPE_CHECKING:
    from headrace_workers.core.ledger.ledger import Ledger
    from headrace_workers.runtime.wire.hints import Notifier

LEDGER_FILE = "ledger.db"
REDIS_SECONDS = 1.0  # it gives hints only, which are not worth a longer wait


@dataclass(frozen=True, slots=True)
class RunningStack:
    """The addresses that a running `headrace up` has written down. `durable`: its broker's log outlives the broker."""

    broker: str
    durable: bool
    kafka: str
    redis: str
    ledger: str
    pid: int


def running(env: Mapping[str, str] | None = None) -> RunningStack | None:
    """Return the embedded stack of this home, where one runs."""
    try:
        addresses = running_stack(env)
        content = json.loads((home_of(env) / RUN_FILE).read_text(encoding="utf-8"))
    except (ConfigurationError, OSError, ValueError):
        return None
    return RunningStack(
        # Not known counts as not durable: to be careful costs a moment, the opposite a job.
        broker=str(content.get("broker", "unknown")),
        durable=content.get("durable") is True,
        kafka=addresses["kafka"],
        redis=addresses["redis"],
        ledger=addresses["ledger"],
        pid=int(content["pid"]),
    )


def is_durable(env: Mapping[str, str] | None = None) -> bool:
    """Return True if a record is safe once Kafka confirms it: as HEADRACE_KAFKA_DURABLE says.

    Without that variable, a broker that the environment names counts as durable.
    """
    env = environment(env)
    durable = kafka_durable(env)
    if durable is not None:
        return durable
    if env.get("HEADRACE_KAFKA"):
        stack = running(env)
        return stack is None or stack.kafka != env["HEADRACE_KAFKA"] or stack.durable
    stack = running(env)
    return stack is not None and stack.durable


def find_ledger_url(env: Mapping[str, str] | None = None, *, live: bool = False) -> str | None:
    """Return HEADRACE_LEDGER, a running stack's ledger, or (not `live`) the ledger that a stopped stack left in this
    home.
    """
    env = environment(env)
    if env.get("HEADRACE_LEDGER") or running(env) is not None:
        return ledger_url(env)
    left = None if live else left_behind(home_of(env))
    return f"sqlite:///{left}" if left else None


def left_behind(home: Path) -> Path | None:
    """Return the ledger that the last embedded stack of this home wrote."""
    path = (home / LEDGER_FILE).absolute()
    return path if path.is_file() else None


def find_redis_url(env: Mapping[str, str] | None = None) -> str | None:
    """Return HEADRACE_REDIS, or a running stack's Redis if its ledger is in use; None if nothing says where Redis
    is.
    """
    env = environment(env)
    if url := env.get("HEADRACE_REDIS"):
        return url
    stack = running(env)
    if stack is None or (env.get("HEADRACE_LEDGER") or stack.ledger) != stack.ledger:
        return None
    return stack.redis


def redis_address(env: Mapping[str, str] | None = None) -> str | None:
    """Return host and port of the Redis that is asked, without its password; None if nothing says where it is."""
    url = find_redis_url(env)
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        return f"{parts.hostname or parts.path}{f':{parts.port}' if parts.port else ''}"
    except ValueError:  # no URL
        return None


def served_queues(queues: Collection[str], env: Mapping[str, str] | None = None) -> frozenset[str] | None:
    """Return the queues among these that a worker listens to; None if that is not known, which is no error."""
    url = find_redis_url(env)
    if url is None:
        return None
    from headrace_workers.core.redis import RedisNames, live_queues, redis_client

    try:
        client = redis_client(url, REDIS_SECONDS)
    except ValueError:  # no URL
        return None
    with client:
        return live_queues(client, RedisNames(topic_prefix(env)), queues)


def ring_bridges(env: Mapping[str, str] | None = None) -> None:
    """Notify the bridges of new steps and events. If that fails, they look soon anyway."""
    bell = _bell(env)
    if bell is not None:
        from headrace_workers.runtime.wire.hints import Hint

        bell.notify(*Hint)


def _wakes_followers(env: Mapping[str, str] | None) -> Callable[[], None]:
    """Tell the processes that follow answers and documents of changes. Stop after the first failure: they look soon
    anyway.
    """
    known, bell = False, None

    def wake() -> None:
        from headrace_workers.runtime.wire.hints import Hint

        nonlocal known, bell
        if not known:
            known, bell = True, _bell(env)
        if bell is not None and not bell.notify(Hint.CHANGES):
            bell = None

    return wake


def _bell(env: Mapping[str, str] | None) -> "Notifier | None":
    url = find_redis_url(env)
    if url is None:
        return None
    from headrace_workers.core.redis import RedisNames, redis_client
    from headrace_workers.runtime.wire.hints import Notifier

    with suppress(ValueError):  # it may be no URL
        return Notifier(redis_client(url, REDIS_SECONDS), RedisNames(topic_prefix(env)).hints)
    return None


def find_ledger(env: Mapping[str, str] | None = None, *, live: bool = False) -> "Ledger | None":
    """Return the ledger, its tables checked; None when nothing says where it is. See `find_ledger_url`.

    A command that publishes asks for a `live` one. Raise ConfigurationError if that belongs to topics with another
    prefix: its bridges would not read what is published.
    """
    url = find_ledger_url(env, live=live)
    if url is None:
        return None
    ledger = open_ledger(url)
    if live and (reason := other_prefix(ledger, env)):
        ledger.close()
        raise ConfigurationError(reason)
    ledger.tell_of_changes(_wakes_followers(env))
    return ledger


def other_prefix(ledger: "Ledger", env: Mapping[str, str] | None = None) -> str | None:
    """Return how the prefix of topics here differs from the ledger's; None where it does not."""
    from headrace_workers.core.ledger.ledger import Fact

    return ledger.deployment.differs(Fact.PREFIX, topic_prefix(env))


def open_ledger(url: str) -> "Ledger":
    """Return the ledger at a URL. Raise ConfigurationError if its file does not exist or has another version."""
    _, is_file, path = url.partition("sqlite:///")
    if is_file and not Path(path.partition("?")[0]).is_file():  # looking at it would make an empty one
        raise ConfigurationError(
            f"there is no ledger at {path}: `headrace ledger migrate` makes one, and HEADRACE_LEDGER names another"
        )
    from headrace_workers.core.ledger.ledger import Ledger
    from headrace_workers.core.migrate import require_current

    ledger = Ledger.at(url)
    require_current(ledger.engine)
    return ledger


def need_ledger(env: Mapping[str, str] | None = None) -> "Ledger":
    """Return the ledger. Raise ConfigurationError, which names the ways to get one."""
    ledger = find_ledger(env)
    if ledger is None:
        raise ConfigurationError(
            f"no ledger: HEADRACE_LEDGER is not set, and in {home_of(env)} no stack runs or has run; start "
            "`headrace up` (HEADRACE_HOME names its folder), or set HEADRACE_LEDGER=postgresql+psycopg://USER@HOST/DB"
        )
    return ledger
