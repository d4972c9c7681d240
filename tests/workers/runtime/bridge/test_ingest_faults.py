"""Kafka to ledger where a log is spoilt, begins anew or stays open, or a broker gives nothing."""

from contextlib import suppress

import pytest
from kafka import KafkaProducer
from tests.services.eventually import eventually
from tests.services.kafka import spoilt
from tests.workers.runtime.bridge.broker import write
from tests.workers.runtime.bridge.ingesting import done_with, keyed, states, until
from tests.workers.runtime.bridge.records import record

from headrace_producers.admin import ensure_topics
from headrace_schemas import Topic
from headrace_schemas.errors import Unavailable
from headrace_schemas.topics import INBOUND
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.outage import OUTAGE_ERRORS, KafkaUnavailable, awaited
from headrace_workers.runtime.bridge import fetches

HALF = 2 * len(INBOUND)  # of all partitions


def test_a_batch_that_the_disk_spoilt_is_a_dead_letter(ledger, apache_kafka, fresh_prefix, ingests):
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka, partitions=1)
    jobs = [keyed(number) for number in range(3)]
    for job, _ in jobs:
        write(kafka, [record(job)])
    with spoilt(apache_kafka, kafka.topic(Topic.GENERATION), b'"idempotency_key":"1"', b'"idempotency_key":"7"'):
        ingest = ingests(kafka)
        until(ingest, lambda: len(states(ledger)) == 2 and ledger.dead(DeadFilter()))
    assert set(states(ledger)) == {jobs[0][1], jobs[2][1]}
    [refused] = ledger.dead(DeadFilter())
    assert "offsets 1 to 1 cannot be read: its checksum is wrong" in refused.reason
    assert b'"idempotency_key":"7"' in bytes(refused.value)
    ingest.close()
    assert done_with(ledger, kafka, Topic.GENERATION) == 3


@pytest.mark.parametrize("runs_on", [True, False], ids=["the same bridge", "another bridge"])
def test_a_log_that_began_anew_is_read_from_its_beginning(ledger, embedded_kafka, fresh_prefix, ingests, runs_on):
    kafka = embedded_kafka.settings(fresh_prefix)
    assert not kafka.groups
    ensure_topics(kafka, partitions=1)
    ingest = ingests(kafka)
    jobs = [keyed(number) for number in range(10)]
    write(kafka, [record(job) for job, _ in jobs[:3]])
    until(ingest, lambda: len(states(ledger)) == 3)
    embedded_kafka.kill()
    embedded_kafka.restart()
    ensure_topics(kafka, partitions=1)
    write(kafka, [record(job) for job, _ in jobs[3:]])
    if not runs_on:
        ingest.close()
        ingest = ingests(kafka, name="b")

    def all_read():
        try:
            ingest.once(lambda hint: None)
        except OUTAGE_ERRORS:
            return False
        return len(states(ledger)) == 10

    eventually(all_read)
    eventually(lambda: ingest.once(lambda hint: None) or done_with(ledger, kafka, Topic.GENERATION) == 7)
    assert ledger.overview().incidents == ()  # that is how such a broker is, and no incident


def only_trouble(ledger, kafka):
    """Why the first partition of jobs is not read, while nothing else is wrong: on a busy machine other partitions take
    half a second, too, for a moment.
    """
    found = {incident.subject: incident.reason for incident in ledger.open_incidents()}
    return found.get(f"ingest {kafka.topic(Topic.GENERATION)}-0", "") if len(found) == 1 else ""


def test_a_transaction_that_stays_open_is_named(ledger, apache_kafka, fresh_prefix, ingests, monkeypatch):
    monkeypatch.setattr(fetches, "LASTS", 0.5)
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka)
    producer = KafkaProducer(**kafka.client_options(), transactional_id=f"{kafka.prefix}t")
    producer.init_transactions()
    producer.begin_transaction()
    jobs = [keyed(number) for number in range(3)]
    opened = record(jobs[0][0])
    producer.send(kafka.topic(Topic.GENERATION), value=opened.value, headers=list(opened.headers), partition=0)
    producer.flush()
    write(kafka, [record(jobs[1][0]), record(jobs[2][0], partition=1)])
    ingest = ingests(kafka)
    words = "from offset 0 on wait for a transaction"
    until(ingest, lambda: states(ledger) and words in only_trouble(ledger, kafka))
    assert set(states(ledger)) == {jobs[2][1]}
    assert "wait for a transaction" in ingest.once(lambda hint: None).why
    producer.commit_transaction()
    producer.close()
    until(ingest, lambda: len(states(ledger)) == 3 and not ledger.open_incidents())


def test_a_partition_that_the_broker_cannot_read_holds_no_other(
    ledger, apache_kafka, fresh_prefix, ingests, monkeypatch
):
    monkeypatch.setattr(fetches, "LASTS", 0.5)
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka)
    jobs = [keyed(number) for number in range(4)]
    write(kafka, [record(jobs[0][0]), record(jobs[1][0], partition=1)])
    [segment] = apache_kafka.folder.glob(f"kafka/log/{kafka.topic(Topic.GENERATION)}-0/*.log")
    with segment.open("r+b") as file:  # under the broker's hands: with such a file it would not start
        file.seek(8)
        file.write((5).to_bytes(4, "big"))  # a batch shorter than its own head
    ingest = ingests(kafka)
    until(ingest, lambda: "cannot be read at offset 0" in only_trouble(ledger, kafka))
    write(kafka, [record(jobs[2][0], partition=1), record(jobs[3][0], partition=2)])
    until(ingest, lambda: set(states(ledger)) == {job_id for _, job_id in jobs[1:]})


def test_a_broker_that_answers_no_fetch_is_named(ledger, embedded_kafka, fresh_prefix, ingests, monkeypatch):
    """The library tries again for ever, and would say nothing to the loop. When it answers again, that is over."""
    monkeypatch.setattr("headrace_workers.runtime.bridge.ingest.SILENCE", 2.0)
    kafka = embedded_kafka.settings(fresh_prefix)
    ensure_topics(kafka, partitions=1)
    ingest = ingests(kafka)
    until(ingest, lambda: ingest._consumer is not None and ingest._consumer.assignment())

    def waits_for():
        try:
            waits = ingest.once(lambda hint: None)
        except OUTAGE_ERRORS as error:
            waits = awaited(error)
        return waits.what if waits else "nothing"

    eventually(lambda: waits_for() == "nothing")
    embedded_kafka.freeze()
    try:
        eventually(lambda: waits_for() == "Kafka")
    finally:
        embedded_kafka.thaw()
    eventually(lambda: waits_for() == "nothing")


@pytest.mark.parametrize("partitions", [4])
def test_a_bridge_that_cannot_read_leaves_that_to_others(ledger, kafka, ingests):
    cut, well = ingests(kafka, name="cut"), ingests(kafka, name="well")

    def read():
        for ingest in (cut, well):
            with suppress(KafkaUnavailable):
                ingest.once(lambda hint: None)
        return [len(ingest._consumer.assignment()) if ingest._consumer else 0 for ingest in (cut, well)]

    eventually(lambda: read() == [HALF, HALF])
    look = cut._partitions._look
    cut._fetches.silence = lambda asked: 11.0
    cut._partitions._look = lambda: (_ for _ in ()).throw(KafkaUnavailable("no way"))
    eventually(lambda: read() == [0, 2 * HALF])
    [trouble] = ledger.open_incidents()
    assert trouble.subject == "ingest"
    assert trouble.reason in ("no fetch has been answered for 11 s", "no way")
    cut._partitions._look = look
    eventually(lambda: read() == [HALF, HALF] and not ledger.open_incidents())


class Later(SystemClock):
    by = 0.0

    def monotonic(self):
        return super().monotonic() + self.by


def test_time_in_which_nobody_polled_is_no_silence_of_kafka(ledger, kafka, ingests, monkeypatch):
    clock = Later()
    ingest, share, failures = ingests(kafka, clock=clock), ledger.share, []
    until(ingest, lambda: ingest._consumer is not None)
    consumer = ingest._consumer

    def slow(*args):
        if not failures:
            failures.append("away")
            clock.by += 3_600.0
            raise Unavailable("away")
        return share(*args)

    monkeypatch.setattr(ledger, "share", slow)
    with pytest.raises(Unavailable):
        until(ingest, lambda: False)
    for _ in range(4):
        ingest.once(lambda hint: None)
    assert ingest._consumer is consumer
