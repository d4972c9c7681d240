"""Which service an error tells of, and what it says."""

import pytest
import redis
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from kombu.exceptions import OperationalError

from headrace_schemas.errors import Unavailable
from headrace_workers.away import AWAY, RedisUnavailable, awaited, words


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (KafkaTimeoutError("no broker"), "Kafka"),
        (redis.TimeoutError("no answer"), "Redis"),
        (OperationalError("no answer"), "Redis"),
        (RedisUnavailable("Redis did not answer"), "Redis"),
        (Unavailable("the ledger did not answer"), "the ledger"),
        (ConnectionResetError("reset"), "a service"),
    ],
)
def test_each_service_is_known_by_its_errors(error, what):
    """All of them count as away."""
    assert isinstance(error, AWAY)
    assert awaited(error).what == what


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KafkaTimeoutError("Unable to bootstrap"), "KafkaTimeoutError: Unable to bootstrap"),
        (redis.TimeoutError("Timeout\n reading"), "TimeoutError: Timeout reading"),
        (ConnectionError(), "ConnectionError"),
        (Unavailable("the ledger did not answer"), "the ledger did not answer"),
    ],
)
def test_an_error_is_one_line_that_is_never_empty(error, said):
    """With its kind once, where it has one that helps."""
    assert words(error) == said


def test_an_error_without_words_of_its_own_tells_its_kind():
    """Kafka's say None."""
    assert "MessageSizeTooLargeError" in words(MessageSizeTooLargeError())
