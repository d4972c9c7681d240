"""Creating topics."""

from headrace_producers import KafkaSettings
from headrace_producers.admin import ensure_topics, missing_topics
from headrace_schemas import Topic


def test_topics_are_created_once(kafka):
    """The first call creates what is missing, the second finds nothing to do."""
    settings = KafkaSettings.at(kafka.address, f"again.{kafka.prefix}")
    assert missing_topics(settings, Topic) == list(Topic)
    assert ensure_topics(settings, partitions=2) == list(Topic)
    assert ensure_topics(settings) == []
    assert missing_topics(settings, Topic) == []
