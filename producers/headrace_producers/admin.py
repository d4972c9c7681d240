"""Topics: which are missing, and creating them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from headrace_producers.settings import KafkaSettings
from headrace_schemas.errors import Unavailable
from headrace_schemas.limits import MAX_EVENT_BYTES
from headrace_schemas.topics import Topic

# What a job's records need: one partition keeps a job's order, four let as many bridges share the work.
PARTITIONS = 4
_HEADROOM = 64 * 1024  # headers and framing


def ensure_topics(
    settings: KafkaSettings, *, partitions: int = PARTITIONS, replication: int = 1, timeout: float = 30.0
) -> list[Topic]:
    """Create the topics that are not there and return them. Safe to call by many at once.

    Raises Unavailable when the broker does not answer within `timeout` seconds, or refuses.
    """
    from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

    missing = missing_topics(settings, Topic, timeout=timeout)
    if not missing:
        return []
    options = {"num_partitions": partitions, "replication_factor": replication}
    # An event may be larger than a job may be: what was accepted must never be too large to be answered.
    configs = {"max.message.bytes": str(MAX_EVENT_BYTES + _HEADROOM)}
    names = {settings.topic(topic): {**options, "configs": configs} for topic in missing}
    try:
        with _admin(settings, timeout) as admin:
            answer = admin.create_topics(names, raise_errors=False)
            for created in answer["topics"]:
                # Another process may have been quicker.
                if created["error_code"] not in (0, TopicAlreadyExistsError.errno):
                    raise for_code(created["error_code"])(f"{created['name']}: {created.get('error_message')}")
            admin.wait_for_topics(list(names), timeout_ms=int(timeout * 1000))
    except KafkaError as error:
        raise Unavailable(f"topics cannot be created on {settings.address}: {type(error).__name__}: {error}") from error
    return missing


def missing_topics(settings: KafkaSettings, topics: Iterable[Topic], *, timeout: float = 10.0) -> list[Topic]:
    """Those of the topics that the broker does not have; Unavailable when it does not answer."""
    from kafka.errors import KafkaError

    try:
        with _admin(settings, timeout) as admin:
            there = set(admin.list_topics())
    except KafkaError as error:
        raise Unavailable(f"no Kafka broker answers at {settings.address}: {type(error).__name__}: {error}") from error
    return [topic for topic in topics if settings.topic(topic) not in there]


@contextmanager
def _admin(settings: KafkaSettings, timeout: float) -> Iterator[Any]:
    from kafka.admin import KafkaAdminClient

    milliseconds = int(timeout * 1000)
    admin = KafkaAdminClient(
        **settings.client_options(), bootstrap_timeout_ms=milliseconds, request_timeout_ms=milliseconds
    )
    try:
        yield admin
    finally:
        admin.close()
