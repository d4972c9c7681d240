import pytest

from headrace_producers import KafkaSettings
from headrace_producers.admin import ensure_topics, missing_topics, topic_limits
from headrace_schemas import Topic
from headrace_schemas.errors import Unavailable

NOBODY = KafkaSettings.at("127.0.0.1:1", "nobody")


def test_topics_are_created_once(kafka):
    settings = KafkaSettings.at(kafka.address, f"again.{kafka.prefix}")
    assert missing_topics(settings, Topic) == list(Topic)
    assert ensure_topics(settings, partitions=2) == list(Topic)
    assert ensure_topics(settings) == []
    assert missing_topics(settings, Topic) == []


@pytest.mark.integration
@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: ensure_topics(NOBODY, timeout=0.1), "no Kafka broker answers at 127.0.0.1:1"),
        (lambda: missing_topics(NOBODY, Topic, timeout=0.1), "no Kafka broker answers at 127.0.0.1:1"),
        (lambda: topic_limits(NOBODY, timeout=0.1), "the topics' limits cannot be read on 127.0.0.1:1"),
    ],
    ids=["create", "missing", "limits"],
)
def test_a_broker_that_is_away_is_told_once(ask, said):
    with pytest.raises(Unavailable) as told:
        ask()
    assert str(told.value) == f"{said}: KafkaTimeoutError: Unable to bootstrap from ['127.0.0.1:1']"


def test_topics_that_the_broker_refuses_are_told_in_its_words(apache_kafka, fresh_prefix):
    settings = apache_kafka.settings(fresh_prefix)
    with pytest.raises(Unavailable, match=r"topics cannot be created on .*: .*InvalidReplicationFactorError") as told:
        ensure_topics(settings, replication=3)
    assert str(told.value).count("InvalidReplicationFactorError") == 1
