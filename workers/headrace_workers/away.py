"""What a service that is away looks like, in each library's words."""

import redis
from kafka.errors import KafkaError
from kombu.exceptions import OperationalError

from headrace_producers.words import words
from headrace_schemas.errors import Unavailable
from headrace_workers.progress import Awaited

REDIS_AWAY = (redis.RedisError, OperationalError, ConnectionError, TimeoutError)
AWAY = (Unavailable, KafkaError, *REDIS_AWAY)


class RedisUnavailable(Unavailable):
    """Redis did not answer."""


class KafkaUnavailable(Unavailable):
    """Kafka did not answer, or did not do what it should."""


def awaited(error: BaseException) -> Awaited:
    """The service that an error of `AWAY` tells of, and what it said."""
    if isinstance(error, KafkaError | KafkaUnavailable):
        return Awaited("Kafka", words(error))
    if isinstance(error, RedisUnavailable | redis.RedisError | OperationalError):
        return Awaited("Redis", words(error))
    if isinstance(error, Unavailable):
        return Awaited("the ledger", words(error))
    return Awaited("a service", words(error))
