"""The checks of `headrace doctor`, and what they say if something is wrong.

All that checks need is imported before they run side by side: threads that import one library at the same moment may
find half of it, as of SQLAlchemy.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import kafka.admin  # noqa: F401 - two checks load it where they ask Kafka
import redis

from headrace_producers.admin import cluster_id, missing_topics, too_small, topic_limits
from headrace_schemas.errors import HeadraceError, Unavailable
from headrace_schemas.topics import Topic
from headrace_workers.cli.connections import is_durable
from headrace_workers.cli.status_views import redis_is_away, trouble_lines
from headrace_workers.core.feature import Check, installed
from headrace_workers.core.ledger.ledger import Fact, Ledger
from headrace_workers.core.migrate import require_current
from headrace_workers.core.redis import redis_client
from headrace_workers.core.sql.database import connect
from headrace_workers.runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """A checked thing and its problem; None if there is none."""

    what: str
    wrong: str | None = None


def all_checks() -> tuple[Check, ...]:
    """Return the checks of the services, then the features' checks."""
    return (*_SERVICES, *(check for feature in installed() for check in feature.checks()))


def examine(checks: Sequence[Check], settings: Settings) -> Iterator[Finding]:
    """Yield a finding for each thing that was looked at, or several where several things are wrong with it.

    All are looked at side by side: what does not answer takes its time, and several take no longer than one.
    """
    with ThreadPoolExecutor(len(checks), thread_name_prefix="doctor") as threads:
        for check, wrong in zip(checks, threads.map(lambda each: _problems_of(each, settings), checks), strict=True):
            yield from [Finding(check.what, line) for line in wrong] or [Finding(check.what)]


def _problems_of(check: Check, settings: Settings) -> Sequence[str]:
    try:
        return check.look(settings)
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
        raise Unavailable(redis_is_away(type(error).__name__)) from error
    return []


def _bridges(settings: Settings) -> list[str]:
    ledger = Ledger.at(settings.ledger)
    try:
        found = ledger.overview()
        acute = [incident for incident in found.incidents if not incident.mends_itself]
        return trouble_lines(acute, found.held, found.set_aside)
    finally:
        ledger.close()


_SERVICES: Final = (
    Check("topics", _topics),
    Check("limits of topics", _limits),
    Check("ledger", _ledger),
    Check("deployment", _deployment),
    Check("redis", _redis),
    Check("bridges", _bridges),
)
