"""The services of the tests themselves: killed, started again, and what they keep."""

import psycopg
import pytest
import redis as client
from kafka import KafkaProducer
from tests.services.eventually import eventually
from tests.services.need import need
from tests.services.records import read

from headrace_producers.admin import ensure_topics, missing_topics
from headrace_schemas import Topic


def test_a_missing_service_skips_here_and_fails_in_ci(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no Kafka"):
        need(None, "no Kafka")
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="no Kafka"):
        need(None, "no Kafka")
    assert need("there", "no Kafka") == "there"


@pytest.mark.slow
def test_postgres_keeps_its_data_when_it_is_killed(postgres):
    url = postgres.create_database("kept").replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE t AS SELECT 7 AS n")
    postgres.kill()
    assert not postgres.running
    postgres.restart()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM t").fetchone() == (7,)


def test_redis_comes_back_empty_on_the_same_address(redis_server):
    with client.Redis.from_url(redis_server.url) as connection:
        connection.set("a", "b")
    redis_server.kill()
    redis_server.restart()
    with client.Redis.from_url(redis_server.url) as connection:
        assert connection.get("a") is None


@pytest.mark.parametrize("partitions", [2])
def test_all_that_lies_on_a_topic_is_read(kafka):
    producer = KafkaProducer(**kafka.client_options(), linger_ms=1_000)  # one batch; closing it ends the wait
    for number in range(1_200):
        producer.send(kafka.topic(Topic.OUTPUTS), value=b"%d" % number, partition=1)
    producer.close()
    assert [int(record.value) for record in read(kafka, [Topic.OUTPUTS, Topic.DEAD])] == list(range(1_200))


@pytest.mark.parametrize("broker", ["embedded_kafka", "apache_kafka"])
def test_topics_of_a_test_that_has_ended_are_removed_and_no_others(request, fresh_prefix, broker):
    server = request.getfixturevalue(broker)
    ended, beside = server.settings(f"{fresh_prefix}1."), server.settings(f"{fresh_prefix}11.")
    for settings in (ended, beside):
        ensure_topics(settings, partitions=1)
    for _ in range(2):
        server.forget([ended.prefix])
        eventually(lambda: missing_topics(ended, Topic) == list(Topic))
        assert missing_topics(beside, Topic) == []
