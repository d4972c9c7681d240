"""Whether a partition's log is the one that was read, on real brokers."""

from contextlib import closing

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from tests.services.eventually import eventually
from tests.workers.bridge.broker import write
from tests.workers.bridge.ingesting import keyed
from tests.workers.bridge.records import record

from headrace_producers.admin import ensure_topics
from headrace_schemas import Topic
from headrace_workers.bridge.same_log import mark_of, newest_match, with_mark
from headrace_workers.ledger.work.positions import Again, Mark, Position


def mark(offset, digest="ab"):
    """A mark at an offset."""
    return Mark(offset, 0, offset, digest)


@pytest.mark.parametrize("step", [1, 7, 500])
def test_marks_are_few_and_go_far_back(step):
    """Sixteen at most, the newest always; a log that lacks the last records is read again from at most four times as
    far back, and a little."""
    marks = ()
    for number in range(3_000):
        marks = with_mark(marks, mark(newest := number * step))
        assert marks[-1].offset == newest
        assert len(marks) <= 16
        assert list(marks) == sorted(marks)
    for lost in (1, 3, 50, 1_000):
        nearest = max(each.offset for each in marks if each.offset <= newest - lost * step)
        assert newest - nearest <= 4 * lost * step + step


def consumer_of(kafka):
    """One that is for this alone."""
    return closing(KafkaConsumer(**kafka.client_options(), auto_offset_reset="earliest", enable_auto_commit=False))


@pytest.fixture
def partition(kafka):
    """The first of jobs, with six of them."""
    write(kafka, [record(keyed(number)[0]) for number in range(6)])
    return TopicPartition(kafka.topic(Topic.GENERATION), 0)


def marks_of(kafka, partition):
    """A mark of each record."""
    with consumer_of(kafka) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        found = []
        eventually(lambda: found.extend(consumer.poll(500).get(partition, ())) or len(found) == 6)
    return tuple(mark_of(each) for each in found)


def test_a_log_is_read_again_from_the_newest_record_that_is_the_same(kafka, partition):
    """Where the last are others, or are not there, or all are others; a log that is the same stays as it is."""
    marks = marks_of(kafka, partition)
    others = tuple(each._replace(digest="ab") for each in marks)
    assert len({each.digest for each in marks}) == 6
    cases = [
        (Position(6, marks), None),
        (Position(1), None),
        (Position(6, (*marks[:4], *others[4:])), Position(4, marks[:4], Again(6, others[4].at))),
        (Position(6, (marks[1], others[4], others[5])), Position(2, marks[1:2], Again(6, others[5].at))),
        (Position(6, others), Position(0, (), Again(6, others[5].at))),
        (Position(9, (*marks, mark(8))), Position(6, marks, Again(9, 8))),
        (Position(9), Position(0, (), Again(9, 0))),
    ]
    for position, expected in cases:
        with consumer_of(kafka) as consumer:
            assert newest_match(consumer, partition, position) == expected


def test_what_kafka_deleted_by_age_speaks_against_nothing(apache_kafka, fresh_prefix):
    """Its marks cannot be compared; those of what is still there can."""
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka)
    write(kafka, [record(keyed(number)[0]) for number in range(6)])
    partition = TopicPartition(kafka.topic(Topic.GENERATION), 0)
    marks = marks_of(kafka, partition)
    with closing(KafkaAdminClient(**kafka.client_options())) as admin:
        admin.delete_records({partition: 4})
    for position, expected in [
        (Position(3, marks[:3]), None),
        (Position(6, marks), None),
        (Position(6, (*marks[:4], mark(4), mark(5))), Position(4, (), Again(6, 5))),
    ]:
        with consumer_of(kafka) as consumer:
            assert newest_match(consumer, partition, position) == expected
