from contextlib import closing

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from tests.services.eventually import eventually
from tests.workers.runtime.bridge.broker import write
from tests.workers.runtime.bridge.ingesting import keyed
from tests.workers.runtime.bridge.records import record

from headrace_producers.admin import ensure_topics
from headrace_schemas import Topic
from headrace_workers.core.ledger.positions import Fingerprint, Position, Reread
from headrace_workers.runtime.bridge.cluster import fingerprint_of, newest_match, with_fingerprint


def fingerprint(offset, digest="ab"):
    return Fingerprint(offset, 0, offset, digest)


@pytest.mark.parametrize("step", [1, 7, 500])
def test_marks_are_few_and_go_far_back(step):
    fingerprints = ()
    for number in range(3_000):
        fingerprints = with_fingerprint(fingerprints, fingerprint(newest := number * step))
        assert fingerprints[-1].offset == newest
        assert len(fingerprints) <= 16
        assert list(fingerprints) == sorted(fingerprints)
    for lost in (1, 3, 50, 1_000):
        nearest = max(item.offset for item in fingerprints if item.offset <= newest - lost * step)
        assert newest - nearest <= 4 * lost * step + step


def consumer_of(kafka):
    return closing(KafkaConsumer(**kafka.client_options(), auto_offset_reset="earliest", enable_auto_commit=False))


@pytest.fixture
def partition(kafka):
    write(kafka, [record(keyed(number)[0]) for number in range(6)])
    return TopicPartition(kafka.topic(Topic.GENERATION), 0)


def fingerprints_of(kafka, partition):
    with consumer_of(kafka) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        found = []
        eventually(lambda: found.extend(consumer.poll(500).get(partition, ())) or len(found) == 6)
    return tuple(fingerprint_of(item) for item in found)


def test_a_log_is_read_again_from_the_newest_record_that_is_the_same(kafka, partition):
    fingerprints = fingerprints_of(kafka, partition)
    others = tuple(item._replace(digest="ab") for item in fingerprints)
    assert len({item.digest for item in fingerprints}) == 6
    cases = [
        (Position(6, fingerprints), None),
        (Position(1), None),
        (Position(6, (*fingerprints[:4], *others[4:])), Position(4, fingerprints[:4], Reread(6, others[5].at))),
        (Position(6, (fingerprints[1], others[4], others[5])), Position(2, fingerprints[1:2], Reread(6, others[5].at))),
        (Position(6, others), Position(0, (), Reread(6, others[5].at))),
        (Position(9, (*fingerprints, fingerprint(8))), Position(6, fingerprints, Reread(9, 8))),
        (Position(9), Position(0, (), Reread(9, 0))),
    ]
    for position, expected in cases:
        with consumer_of(kafka) as consumer:
            assert newest_match(consumer, partition, position) == expected


def test_a_broker_that_takes_seconds_to_answer_is_no_other_log(kafka, partition, monkeypatch):
    fingerprints, now = fingerprints_of(kafka, partition), [0.0]
    monkeypatch.setattr("headrace_workers.runtime.bridge.cluster.monotonic", lambda: now[0])
    with consumer_of(kafka) as consumer:
        poll, late = consumer.poll, iter(range(3))

        def slow(**options):
            if next(late, None) is None:
                return poll(**options)
            now[0] += 1.5
            return {}

        monkeypatch.setattr(consumer, "poll", slow)
        assert newest_match(consumer, partition, Position(6, fingerprints)) is None


def test_what_kafka_deleted_by_age_speaks_against_nothing(apache_kafka, fresh_prefix):
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka, partitions=1)
    write(kafka, [record(keyed(number)[0]) for number in range(6)])
    partition = TopicPartition(kafka.topic(Topic.GENERATION), 0)
    fingerprints = fingerprints_of(kafka, partition)
    with closing(KafkaAdminClient(**kafka.client_options())) as admin:
        admin.delete_records({partition: 4})
    for position, expected in [
        (Position(3, fingerprints[:3]), None),
        (Position(6, fingerprints), None),
        (Position(6, (*fingerprints[:4], fingerprint(4), fingerprint(5))), Position(4, (), Reread(6, 5))),
    ]:
        with consumer_of(kafka) as consumer:
            assert newest_match(consumer, partition, position) == expected
