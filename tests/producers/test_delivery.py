"""What a producer promises of each record, also in flight when the broker hangs or refuses: it is told in time."""

import os
import signal
import threading

import pytest
from kafka.admin import KafkaAdminClient
from tests.producers.deliveries import Told, create_topic, delivered, generate, sent_jobs
from tests.services.eventually import eventually
from tests.services.records import read

from headrace_producers import DeliveryFailed, Producer
from headrace_producers.admin import ensure_topics
from headrace_producers.kafka import KafkaSink
from headrace_schemas import Topic


@pytest.mark.integration
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
    for item in read(settings, [Topic.GENERATION]):
        ids.setdefault(item.key.decode(), set()).add(dict(item.headers)["ce_id"])
    assert job_id in ids
    assert {len(group) for group in ids.values()} == {1}


@pytest.mark.integration
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


@pytest.mark.integration
@pytest.mark.parametrize("direction", ["up", "down", "both"])
def test_half_open_connections_end_in_time_and_are_replaced(broker_behind, direction):
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
