import pytest
import redis
from kafka.errors import KafkaTimeoutError
from kombu.exceptions import OperationalError

from headrace_schemas.errors import Unavailable
from headrace_workers.core.outage import OUTAGE_ERRORS, RedisUnavailable, awaited


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
    assert isinstance(error, OUTAGE_ERRORS)
    assert awaited(error).what == what
