"""Topics: which are missing, and creating them."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from headrace_producers.settings import KafkaSettings
from headrace_producers.words import words
from headrace_schemas.errors import Unavailable
from headrace_schemas.limits import MAX_EVENT_BYTES
from headrace_schemas.topics import INBOUND, Topic

# Needs of a job's records: one partition keeps a job's order, four let as many bridges share the work.
PARTITIONS = 4
_HEADROOM = 64 * 1024  # headers and framing
_MADE_WITH = MAX_EVENT_BYTES + _HEADROOM  # also where jobs come in: too large a record is refused there with a reason
MAX_JOB_RECORD_BYTES = 1024**2  # a job of the largest size with its headers: no more than Kafka's own default takes

_REST = 0.1  # seconds between two tries

_LIMIT = "max.message.bytes"
_LIMIT_REFUSED = (40, 44)  # INVALID_CONFIG, POLICY_VIOLATION


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
    names = {settings.topic(t): {**options, "configs": {_LIMIT: str(_MADE_WITH)}} for t in missing}
    try:
        with _admin(settings, timeout) as admin:
            answer = admin.create_topics(names, raise_errors=False)["topics"]
            # Some brokers let nobody set a topic's limit: better a topic of theirs than none, `topic_limits` tells it.
            if plain := {made["name"]: options for made in answer if made["error_code"] in _LIMIT_REFUSED}:
                answer += admin.create_topics(plain, raise_errors=False)["topics"]
            for created in answer:
                # Another process may have been quicker.
                if created["error_code"] not in (0, TopicAlreadyExistsError.errno, *_LIMIT_REFUSED):
                    raise for_code(created["error_code"])(f"{created['name']}: {created.get('error_message')}")
            admin.wait_for_topics(list(names), timeout_ms=int(timeout * 1000))
    except KafkaError as error:
        raise Unavailable(f"topics cannot be created on {settings.address}: {words(error)}") from error
    return missing


def wanted_limit(topic: Topic) -> int:
    """Return the smallest limit in bytes that a topic may have for one record. An accepted job must never be too large
    to be answered.
    """
    return MAX_JOB_RECORD_BYTES if topic in INBOUND else _MADE_WITH


def topic_limits(
    settings: KafkaSettings, topics: Iterable[Topic] = Topic, *, timeout: float = 10.0
) -> dict[Topic, int]:
    """Return `max.message.bytes` of each of the topics for which the broker reports it. Raise Unavailable."""
    from kafka.admin import ConfigResource, ConfigResourceType
    from kafka.errors import KafkaError

    names = {settings.topic(topic): topic for topic in topics}
    try:
        with _admin(settings, timeout) as admin:
            # All settings: asked for a single one, the embedded broker drops the connection.
            resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
            described = admin.describe_configs(resources, config_filter="all")  # also where it is the broker's own
    except KafkaError as error:
        raise Unavailable(f"the topics' limits cannot be read on {settings.address}: {words(error)}") from error
    found = {}
    for name, configs in described.get("topic", {}).items():
        value = configs.get(_LIMIT, {}).get("value") if isinstance(configs, dict) else None
        if value is not None and name in names:
            found[names[name]] = int(value)
    return found


def too_small(settings: KafkaSettings, limits: Mapping[Topic, int]) -> list[str]:
    """Return the settings to change, a line for each topic whose limit is below the largest record that headrace may
    write to it.
    """
    return [
        f"the topic {settings.topic(topic)} takes {limit:,} bytes in one record, and events may have "
        f"{wanted_limit(topic):,}: set its {_LIMIT} to {wanted_limit(topic)}"
        for topic, limit in limits.items()
        if limit < wanted_limit(topic)
    ]


def missing_topics(settings: KafkaSettings, topics: Iterable[Topic], *, timeout: float = 10.0) -> list[Topic]:
    """Return the topics that the broker does not have. Raise Unavailable when it does not answer."""
    from kafka.errors import KafkaError

    try:
        with _admin(settings, timeout) as admin:
            there = set(admin.list_topics())
    except KafkaError as error:
        raise Unavailable(f"no Kafka broker answers at {settings.address}: {words(error)}") from error
    return [topic for topic in topics if settings.topic(topic) not in there]


def cluster_id(settings: KafkaSettings, *, timeout: float = 10.0) -> str | None:
    """Return the id of the broker's cluster, or None where it has none. Raises Unavailable."""
    from kafka.errors import KafkaError

    try:
        with _admin(settings, timeout) as admin:
            return admin.describe_cluster().get("cluster_id") or None
    except KafkaError as error:
        raise Unavailable(f"the cluster's id cannot be read on {settings.address}: {words(error)}") from error


def was_read(settings: KafkaSettings, topics: Iterable[Topic], *, timeout: float = 5.0) -> bool | None:
    """Return True if a bridge has ever begun to read one of these topics; None if the broker does not say."""
    from kafka.errors import KafkaError, RetriableError

    group, until = settings.ingest_group, time.monotonic() + timeout
    try:
        with _admin(settings, timeout) as admin:
            while settings.groups and time.monotonic() < until:
                try:
                    read = {partition.topic for partition in admin.list_group_offsets(group).get(group, {})}
                    return not read.isdisjoint(map(settings.topic, topics))
                except RetriableError:  # a new broker makes its topic of offsets first
                    time.sleep(_REST)
    except KafkaError:  # it may be forbidden to producers
        pass
    return None


@contextmanager
def _admin(settings: KafkaSettings, timeout: float) -> Iterator[Any]:
    from kafka.admin import KafkaAdminClient

    from headrace_producers.connecting import connect

    admin = connect(KafkaAdminClient, settings, timeout, request_timeout_ms=int(timeout * 1000))
    try:
        yield admin
    finally:
        admin.close()
