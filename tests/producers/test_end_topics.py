import pytest

from headrace_producers.admin import ensure_topics
from headrace_producers.end_topics import EndTopics
from headrace_schemas.errors import Unavailable


def test_what_the_broker_says_is_told_once(apache_kafka, fresh_prefix):
    settings = apache_kafka.settings(fresh_prefix)
    ensure_topics(settings)
    topics = EndTopics(settings, "", from_beginning=True, timeout=120)
    with pytest.raises(Unavailable, match=r"the topics cannot be read at .*InvalidGroupIdError") as told:
        topics.poll(10)
    topics.close()
    assert str(told.value).count("InvalidGroupIdError") == 1
