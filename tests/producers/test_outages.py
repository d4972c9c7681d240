"""What a producer promises while its broker dies and comes back: order, and no loss."""

import os
import signal
import threading
from collections import Counter

import pytest
from kafka import TopicPartition
from kafka.errors import (
    InvalidProducerEpochError,
    OutOfOrderSequenceNumberError,
    ProducerFencedError,
    UnknownProducerIdError,
)
from tests.producers.deliveries import Told, generate, sent_jobs
from tests.services.eventually import eventually
from tests.services.records import read

from headrace_producers import Producer
from headrace_producers.admin import ensure_topics
from headrace_producers.kafka import KafkaSink
from headrace_schemas import Topic
from headrace_schemas.codec import decode
from headrace_schemas.job import derive_job_id

pytestmark = pytest.mark.integration


def test_a_producer_outlives_a_broker_that_forgets_everything(broker):
    told = Told()
    producer = Producer(KafkaSink(broker.settings(), on_delivery=told))
    before = generate(producer, 3)
    producer.flush()
    broker.kill()
    between = generate(producer, 20)
    broker.start()
    between += generate(producer, 20)  # the topics are not there yet
    ensure_topics(broker.settings())
    after = generate(producer, 20)
    producer.flush()
    assert Counter(told.calls) == Counter((job_id, None) for job_id in before + between + after)
    assert set(sent_jobs(broker.settings())) == {*between, *after}
    producer.close()


def test_what_is_sent_again_is_in_order(broker):
    told = Told()
    producer = Producer(KafkaSink(broker.settings(), on_delivery=told, batch_bytes=2_000))
    job_id = derive_job_id("default", "a")
    producer.cancel(job_id, reason="before")
    producer.flush()
    broker.freeze()
    for number in range(200):
        producer.cancel(job_id, reason=f"{number}")
    broker.kill()
    broker.start()
    ensure_topics(broker.settings())
    for number in range(200, 400):
        producer.cancel(job_id, reason=f"{number}")
    producer.close()
    assert told.calls == [(job_id, None)] * 401
    reasons = [decode(item.headers, item.value)[1].reason for item in read(broker.settings(), [Topic.CANCELLATION])]
    assert list(dict.fromkeys(reasons)) == [f"{number}" for number in range(400)]


@pytest.mark.parametrize(
    "error", [ProducerFencedError, OutOfOrderSequenceNumberError, UnknownProducerIdError, InvalidProducerEpochError]
)
def test_errors_that_end_an_idempotent_client_end_no_producer(kafka, error):
    told = Told()
    sink = KafkaSink(kafka, on_delivery=told)
    producer = Producer(sink)
    job_ids = generate(producer, 1)
    producer.flush()
    # No broker can be made to say these on demand; the library then does this.
    sink._carrier._link._client._transaction_manager.transition_to_fatal_error(error("of the test"))
    job_ids += generate(producer, 10)
    producer.close()
    assert Counter(told.calls) == Counter((job_id, None) for job_id in job_ids)
    assert set(sent_jobs(kafka)) == set(job_ids)


def test_nothing_behind_a_failure_overtakes_it(apache_kafka, fresh_prefix):
    """A batch fails for its number, and the client itself would go on with the next: it is stopped before that.

    However late it is replaced.
    """
    settings = apache_kafka.settings(fresh_prefix)
    ensure_topics(settings, partitions=1)
    sink = KafkaSink(settings, batch_bytes=2_000)
    replace_it, late = sink._carrier._replace, threading.Event()
    sink._carrier._replace = lambda: (late.wait(1), replace_it())
    producer = Producer(sink)
    job_id = derive_job_id("default", "a")
    producer.cancel(job_id, reason="0")
    producer.flush()
    apache_kafka.freeze()
    try:
        for number in range(1, 200):
            producer.cancel(job_id, reason=f"{number}")
        eventually(lambda: not sink._pending._uncarried[Topic.CANCELLATION])
        # The first batch is on its way; the next ones get numbers that the broker does not expect.
        partition = TopicPartition(settings.topic(Topic.CANCELLATION), 0)
        sink._carrier._link._client._transaction_manager.increment_sequence_number(partition, 7)
    finally:
        os.kill(apache_kafka.pid, signal.SIGCONT)
    producer.close()
    reasons = [decode(item.headers, item.value)[1].reason for item in read(settings, [Topic.CANCELLATION])]
    assert list(dict.fromkeys(reasons)) == [f"{number}" for number in range(200)]


@pytest.mark.slow
def test_acknowledged_records_are_there_in_order_per_key_across_a_kill(durable_broker):
    told = Told()
    settings = durable_broker.settings()
    producer = Producer(KafkaSink(settings, on_delivery=told, linger_ms=1))
    stop = threading.Event()
    sent: dict[str, int] = {}

    def send_in_order(key: str) -> None:
        job_id = derive_job_id("default", key)
        while not stop.is_set():
            producer.cancel(job_id, reason=f"{sent.get(job_id, 0)}")
            sent[job_id] = sent.get(job_id, 0) + 1
            stop.wait(0.01)

    threads = [threading.Thread(target=send_in_order, args=(f"{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(told.calls) > 100)
    durable_broker.kill()
    durable_broker.start()
    confirmed = len(told.calls)
    eventually(lambda: len(told.calls) > confirmed + 100)
    stop.set()
    for thread in threads:
        thread.join()
    producer.close(timeout=240)
    assert Counter(told.calls) == Counter({(job_id, None): count for job_id, count in sent.items()})
    first: dict[str, dict[int, None]] = {job_id: {} for job_id in sent}  # the copies that came first, in their order
    for item in read(settings, [Topic.CANCELLATION]):
        _, event = decode(item.headers, item.value)
        first[event.job_id].setdefault(int(event.reason))
    assert {job_id: [*found] for job_id, found in first.items()} == {
        job_id: list(range(count)) for job_id, count in sent.items()
    }
