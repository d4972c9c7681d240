"""What this command can reach: Kafka, and the ledger and Redis where their addresses are known."""

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headrace_producers.settings import RUN_FILE, kafka_durable, running_stack, topic_prefix
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.environment import environment
from headrace_workers.runtime.settings import home_of, ledger_url

if TYPE_CHECKING:
    from headrace_workers.core.ledger.ledger import Ledger
    from headrace_workers.runtime.wire.notifier import Notifier

LEDGER_FILE = "ledger.db"
_REDIS_SECONDS = 1.0  # it gives hints only, which are not worth a longer wait


@dataclass(frozen=True, slots=True)
class RunningStack:
    """What a running `headrace up` has written down. `durable`: its broker's log outlives the broker."""

    broker: str
    durable: bool
    kafka: str
    redis: str
    ledger: str
    pid: int


def running(env: Mapping[str, str] | None = None) -> RunningStack | None:
    """The embedded stack of this home, where one runs."""
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
    """Whether a record that Kafka has confirmed is safe: as HEADRACE_KAFKA_DURABLE says, else taken to be so for a
    broker that the environment names.
    """
    env = environment(env)
    told = kafka_durable(env)
    if told is not None:
        return told
    if env.get("HEADRACE_KAFKA"):
        stack = running(env)
        return stack is None or stack.kafka != env["HEADRACE_KAFKA"] or stack.durable
    stack = running(env)
    return stack is not None and stack.durable


def find_ledger_url(env: Mapping[str, str] | None = None, *, live: bool = False) -> str | None:
    """HEADRACE_LEDGER, a running stack's ledger, or (not `live`) the one that a stopped stack left in this home."""
    env = environment(env)
    if env.get("HEADRACE_LEDGER") or running(env) is not None:
        return ledger_url(env)
    left = None if live else left_behind(home_of(env))
    return f"sqlite:///{left}" if left else None


def left_behind(home: Path) -> Path | None:
    """The ledger that the last embedded stack of this home wrote."""
    path = (home / LEDGER_FILE).absolute()
    return path if path.is_file() else None


def find_redis_url(env: Mapping[str, str] | None = None) -> str | None:
    """HEADRACE_REDIS, or a running stack's, if its ledger is the one in use; None when nothing says where it is."""
    env = environment(env)
    if url := env.get("HEADRACE_REDIS"):
        return url
    stack = running(env)
    if stack is None or (env.get("HEADRACE_LEDGER") or stack.ledger) != stack.ledger:
        return None
    return stack.redis


def served_queues(queues: Collection[str], env: Mapping[str, str] | None = None) -> frozenset[str] | None:
    """Those of these queues that a worker listens to; None when it is not known, which is no error."""
    url = find_redis_url(env)
    if url is None:
        return None
    from headrace_workers.runtime.wire.redis_client import redis_client
    from headrace_workers.runtime.wire.redis_names import RedisNames
    from headrace_workers.runtime.wire.served import served

    try:
        client = redis_client(url, _REDIS_SECONDS)
    except ValueError:  # no URL
        return None
    with client:
        return served(client, RedisNames(topic_prefix(env)), queues)


def ring_bridges(env: Mapping[str, str] | None = None) -> None:
    """Tell the bridges that there are steps and events, so that they look at once; where that fails, they do soon."""
    bell = _bell(env)
    if bell is not None:
        from headrace_workers.runtime.wire.notifier import Hint

        bell.notify(*Hint)


def _wakes_followers(env: Mapping[str, str] | None) -> Callable[[], None]:
    """Tells who follows answers and documents that there are changes; no more, once that failed: they look soon."""
    known, bell = False, None

    def wake() -> None:
        from headrace_workers.runtime.wire.notifier import Hint

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
    from headrace_workers.runtime.wire.notifier import Notifier
    from headrace_workers.runtime.wire.redis_client import redis_client
    from headrace_workers.runtime.wire.redis_names import RedisNames

    with suppress(ValueError):  # it may be no URL
        return Notifier(redis_client(url, _REDIS_SECONDS), RedisNames(topic_prefix(env)).hints)
    return None


def find_ledger(env: Mapping[str, str] | None = None, *, live: bool = False) -> "Ledger | None":
    """The ledger, its tables checked; None when nothing says where it is. See `find_ledger_url`."""
    url = find_ledger_url(env, live=live)
    if url is None:
        return None
    ledger = open_ledger(url)
    ledger.tell_of_changes(_wakes_followers(env))
    return ledger


def open_ledger(url: str) -> "Ledger":
    """The ledger at a URL; ConfigurationError when it is a file that is not there, or of another version."""
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
    """The ledger; ConfigurationError names the ways to one."""
    ledger = find_ledger(env)
    if ledger is None:
        raise ConfigurationError(
            f"no ledger: HEADRACE_LEDGER is not set, and in {home_of(env)} no stack runs or has run; start "
            "`headrace up` (HEADRACE_HOME names its folder), or set HEADRACE_LEDGER=postgresql+psycopg://USER@HOST/DB"
        )
    return ledger
