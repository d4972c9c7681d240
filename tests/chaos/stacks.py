"""What a deployment is put over: production's services, and the embedded ones."""

import pytest
import redis as redis_client
from tests.services.kafka import KafkaServer
from tests.services.postgres import PostgresServer
from tests.services.redis import RedisServer

PRODUCTION, EMBEDDED = "apache_kafka-postgres", "embedded_kafka-sqlite"
EACH = (PRODUCTION, EMBEDDED)


def services_of(request: pytest.FixtureRequest) -> tuple[KafkaServer, RedisServer, PostgresServer | None]:
    """Broker, empty Redis and PostgreSQL, for a fixture whose parameter is one of `EACH`; None: it is SQLite."""
    broker, _, database = request.param.partition("-")
    redis: RedisServer = request.getfixturevalue("redis_server")
    with redis_client.Redis.from_url(redis.url) as client:
        client.flushall()  # claims of another ledger have the same numbers
    postgres = request.getfixturevalue("postgres") if database == "postgres" else None
    return request.getfixturevalue(broker), redis, postgres
