"""What became of each partition's last fetch, with a fetcher and a clock of the test's own."""

from types import SimpleNamespace

import pytest
from kafka.errors import KafkaError, NotLeaderForPartitionError, OffsetOutOfRangeError

from headrace_schemas.errors import ConfigurationError
from headrace_workers.runtime.bridge.fetches import Fetch, Fetches


class Time:
    now = 100.0

    def monotonic(self):
        return self.now


class Fetcher:
    """As kafka-python's: it parses, or raises; and it handles answers."""

    def __init__(self):
        self.error, self.handled = None, []

    def _parse_fetched_data(self, completed):
        if self.error:
            raise self.error
        return f"parsed {completed.fetched_offset}"

    def _handle_fetch_response(self, *response):
        self.handled.append(response)
        return "handled"


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def fetcher():
    return Fetcher()


@pytest.fixture
def fetches(fetcher, time):
    return Fetches(SimpleNamespace(_fetcher=fetcher), time)


def answer(offset=3, end=9, stable=8, error=0, partition="p"):
    data = SimpleNamespace(error_code=error, high_watermark=end, last_stable_offset=stable)
    return SimpleNamespace(topic_partition=partition, partition_data=data, fetched_offset=offset)


def test_what_was_fetched_is_noted_and_handed_on(fetcher, fetches, time):
    assert fetches.last == {}
    assert fetcher._parse_fetched_data(answer()) == "parsed 3"
    assert fetches.last == {"p": Fetch(3, 9, 8, None, 100.0)}
    assert fetches.resting() == set()


def test_a_partition_is_as_it_is_since_its_offset_or_its_trouble_changed(fetcher, fetches, time):
    """Not since it was last fetched."""
    seen = []
    for offset, error in ((3, 0), (3, 0), (4, 0), (4, 6), (4, 1), (4, 0), (5, 0)):
        fetcher._parse_fetched_data(answer(offset, error=error))
        seen.append(fetches.last["p"].since)
        time.now += 1
    assert seen == [100.0, 100.0, 102.0, 103.0, 103.0, 105.0, 106.0]


def test_an_error_of_the_broker_is_told_in_its_words(fetcher, fetches):
    fetcher._parse_fetched_data(answer(error=NotLeaderForPartitionError.errno))
    fetcher._parse_fetched_data(answer(error=OffsetOutOfRangeError.errno, partition="q"))
    assert "NotLeaderForPartitionError" in fetches.last["p"].failure
    assert "OffsetOutOfRangeError" in fetches.last["q"].failure
    assert fetches.resting() == set()


def test_what_the_library_raises_for_one_partition_lets_it_rest(fetcher, fetches, time):
    fetcher.error = KafkaError("no whole batch")
    assert fetcher._parse_fetched_data(answer()) is None
    assert fetches.last["p"].failure == "KafkaError: no whole batch"
    fetcher.error = None
    time.now += 1
    assert fetcher._parse_fetched_data(answer(partition="q")) == "parsed 3"
    assert fetches.resting() == {"p"}
    time.now += 0.9
    assert fetches.resting() == {"p"}
    time.now += 0.1
    assert fetches.resting() == set()
    assert fetcher._parse_fetched_data(answer()) == "parsed 3"
    assert fetches.last["p"].failure is None


def test_silence_is_since_the_last_answer(fetcher, fetches, time):
    time.now += 5
    assert fetches.silence(asked=True) == 5.0
    assert fetcher._handle_fetch_response("node", "answer") == "handled"
    assert fetcher.handled == [("node", "answer")]
    time.now += 2
    assert fetches.silence(asked=True) == 2.0
    assert fetches.silence(asked=False) == 0.0
    time.now += 1
    assert fetches.silence(asked=True) == 1.0


def test_a_library_that_is_built_otherwise_is_refused(time):
    with pytest.raises(ConfigurationError, match=r"is not built as headrace expects .*: install kafka-python 3\.0\.12"):
        Fetches(SimpleNamespace(_fetcher=object()), time)
