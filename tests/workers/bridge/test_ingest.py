"""Kafka to ledger, on each broker."""

import json
import shutil
import subprocess
from dataclasses import replace

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError
from sqlalchemy import select
from tests.services.eventually import eventually
from tests.services.header_names import OddName
from tests.services.kafka import spoilt
from tests.services.need import need
from tests.workers.bridge.broker import committed, write
from tests.workers.bridge.records import Models, cancel, evaluation, generation, record, replaced

from headrace_producers.admin import ensure_topics
from headrace_schemas import Topic
from headrace_schemas.errors import Unavailable
from headrace_workers.away import AWAY, awaited
from headrace_workers.bridge import partition_watch
from headrace_workers.bridge.ingest import Ingest
from headrace_workers.bridge.partitions import group_of, partitions_of
from headrace_workers.bridge.troubles import Troubles
from headrace_workers.clock import SystemClock
from headrace_workers.ledger.replay import DeadFilter
from headrace_workers.ledger.tables import JOBS, OUTBOX


@pytest.fixture
def ingests(ledger):
    """Makes ingests, and closes them."""
    made = []

    def make(kafka, max_active=1_000, name="a"):
        clock = SystemClock()
        made.append(
            Ingest(
                partitions=partitions_of(kafka, ledger, name, clock), prefix=kafka.prefix, ledger=ledger,
                models=Models(), judge_model=None, max_active=max_active, clock=clock,
                troubles=Troubles(ledger, name, clock),
            )
        )  # fmt: skip
        return made[-1]

    yield make
    for ingest in made:
        ingest.close()


def until(ingest, condition, seconds=120):
    """Poll until the condition holds."""

    def look():
        ingest.once(lambda hint: None)
        return condition()

    return eventually(look, seconds)


def states(ledger):
    """The ledger's jobs, with their states."""
    return {row.id: row.state for row in ledger.read(select(JOBS.c.id, JOBS.c.state))}


def done_with(ledger, kafka, topic):
    """How many records of a topic need not be read again, wherever that is kept."""
    if kafka.groups:
        return committed(kafka, group_of(kafka), topic)
    return sum(following for place, following in ledger.positions().items() if place.topic == kafka.topic(topic))


def keyed(number):
    """A job and its id."""
    job = generation(idempotency_key=str(number))
    return job, job.job_id("")


def test_good_and_bad_records_are_told_apart_and_it_goes_on(ledger, kafka, ingests):
    """Jobs are in the ledger, each refusal is one dead letter and one event, and what came after was taken too."""
    jobs = [keyed(number) for number in range(6)]
    judged = evaluation(idempotency_key="j")
    bad = [record(value=b"\xff\x00"), record(value=b'{"model":"echo","prompt":5}'), record(generation(model="gone")),
           record(headers=()), record(value=None), record(value=b"x" * 3_000_000),
           record(headers=replaced(record().headers, "ce_type", b"headrace.job.generation.v9"))]  # fmt: skip
    good = [record(job) for job, _ in jobs]
    mixed = [item for pair in zip(bad[:6], good, strict=True) for item in pair] + bad[6:]
    late = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"
    write(kafka, [*mixed, record(judged), record(cancel(late))])
    ingest = ingests(kafka)
    until(ingest, lambda: len(states(ledger)) == 8 and len(ledger.dead(DeadFilter())) == 7)
    assert states(ledger) == {i: "active" for _, i in jobs} | {judged.job_id(""): "active", late: "cancelled"}
    announced = [row.topic for row in ledger.read(select(OUTBOX.c.topic))]
    assert sorted(announced) == ["dead"] * 7 + ["results"]
    assert {letter.category for letter in ledger.dead(DeadFilter())} == {"invalid"}
    ingest.close()
    assert done_with(ledger, kafka, Topic.GENERATION) == 13


def test_a_refused_record_is_told_with_its_key_and_its_place(ledger, kafka, ingests):
    """As Kafka has them, so that whoever sent it under a key of its own finds it."""
    job = generation(idempotency_key="k")
    write(kafka, [record(job), record(job, key=b"my-own-key")])
    ingest = ingests(kafka)
    until(ingest, lambda: len(ledger.dead(DeadFilter(id="my-own-key"))) == 1)
    (letter,) = ledger.dead(DeadFilter(id=job.job_id("")))
    assert (letter.key, letter.topic, letter.partition, letter.offset) == ("my-own-key", "jobs.generation", 0, 1)
    assert states(ledger) == {job.job_id(""): "active"}


def test_header_names_that_are_no_utf8_stop_nothing(ledger, kafka, ingests):
    """Such a header is passed over as any that is not ours: its job is taken, its batch is read, a refusal shows it."""
    odd = (OddName(b"trace\xff\x00"), b"1")
    jobs = [keyed(number) for number in range(4)]
    first, *rest = [record(job) for job, _ in jobs]
    marked = record(jobs[1][0], headers=(odd, *rest[0].headers, (OddName(b"ce_\xfe"), b"2")))
    write(kafka, [first, marked, record(value=b"bad", headers=(*first.headers, odd)), *rest[1:]])
    ingest = ingests(kafka)
    until(ingest, lambda: len(states(ledger)) == 4 and len(ledger.dead(DeadFilter())) == 1)
    assert states(ledger) == {job_id: "active" for _, job_id in jobs}
    [refused] = ledger.dead(DeadFilter())
    assert json.loads(refused.headers)["trace\\xff\x00"] == "1"
    ingest.close()
    assert done_with(ledger, kafka, Topic.GENERATION) == 5


@pytest.mark.parametrize("codec", ["lz4", "snappy", "zstd"])
def test_jobs_that_another_client_packed_are_taken(ledger, kafka, ingests, tmp_path, codec):
    """One record that kafka-python cannot unpack by itself once stopped every partition."""
    kcat = need(shutil.which("kcat"), "kcat is needed (Debian: kcat)")
    job, other = generation(prompt="ab " * 60_000, idempotency_key="1"), generation(idempotency_key="2")
    packed = record(job)
    (tmp_path / "value").write_bytes(packed.value)
    headers = [part for name, text in packed.headers for part in ("-H", f"{name}={text.decode()}")]
    command = [kcat, "-b", kafka.address, "-t", kafka.topic(Topic.GENERATION), "-p", "0", "-z", codec, "-P"]
    subprocess.run([*command, *headers, str(tmp_path / "value")], check=True, timeout=60)
    write(kafka, [record(other, partition=1), record(other, partition=0)])
    until(ingests(kafka), lambda: len(states(ledger)) == 2)
    assert set(states(ledger)) == {job.job_id(""), other.job_id("")}
    assert ledger.dead(DeadFilter()) == []


def test_a_batch_that_the_disk_spoilt_is_a_dead_letter(ledger, apache_kafka, fresh_prefix, ingests):
    """It is told with its offsets and kept as it lies in the log; what lies behind it is taken."""
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka)
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


def test_offsets_are_committed_only_after_the_write(ledger, kafka, ingests, monkeypatch):
    """A ledger that fails once costs nothing: what was polled is read again, and nothing is there twice."""
    jobs = [keyed(number) for number in range(5)]
    write(kafka, [record(job) for job, _ in jobs] + [record(value=b"")])
    ingest, write_all, failures = ingests(kafka), ledger.ingest, [Unavailable("away")]

    def flaky(*args):
        if failures:
            consumer = ingest._consumer  # asked itself: a second member would disturb the group
            if kafka.groups:
                assert not any(consumer.committed(partition) for partition in consumer.assignment())
            assert ledger.positions() == {}
            raise failures.pop()
        return write_all(*args)

    monkeypatch.setattr(ledger, "ingest", flaky)
    with pytest.raises(Unavailable):
        until(ingest, lambda: False)
    assert states(ledger) == {}
    until(ingest, lambda: len(states(ledger)) == 5 and len(ledger.dead(DeadFilter())) == 1)
    ingest.close()
    assert done_with(ledger, kafka, Topic.GENERATION) == 6


def read_alone(kafka):
    """The same broker, without its consumer groups."""
    return replace(kafka, groups=False)


def test_without_groups_one_bridge_reads_all_and_another_takes_over(ledger, kafka, ingests):
    """On any broker: the second waits; from one that was killed it takes over when the lease ends, from one that
    stops at once; it goes on where the ledger says, and reads nothing twice.
    """
    kafka = read_alone(kafka)
    first, second, third = (ingests(kafka, name=name) for name in "abc")
    jobs = [keyed(number) for number in range(9)]
    write(kafka, [record(job, partition=number % 3) for number, (job, _) in enumerate(jobs[:3])])
    until(first, lambda: len(states(ledger)) == 3)
    assert len(first._consumer.assignment()) == 12
    assert second.once(lambda hint: None) is None
    assert second._consumer is None
    write(kafka, [record(job, partition=number % 3) for number, (job, _) in enumerate(jobs[3:6])])
    until(second, lambda: len(states(ledger)) == 6)  # the first is silent, as if killed
    assert [second._consumer.position(TopicPartition(kafka.topic(Topic.GENERATION), n)) for n in range(4)] == [
        2,
        2,
        2,
        0,
    ]
    until(first, lambda: first._consumer is None)
    second.close()
    write(kafka, [record(job) for job, _ in jobs[6:]])
    until(third, lambda: len(states(ledger)) == 9)
    third.close()
    assert done_with(ledger, kafka, Topic.GENERATION) == 9


@pytest.mark.parametrize("runs_on", [True, False], ids=["the same bridge", "another bridge"])
def test_a_log_that_began_anew_is_read_from_its_beginning(ledger, embedded_kafka, fresh_prefix, ingests, runs_on):
    """Also when it already holds more records than were read of the old one."""
    kafka = embedded_kafka.settings(fresh_prefix)
    assert not kafka.groups
    ensure_topics(kafka)
    ingest = ingests(kafka)
    jobs = [keyed(number) for number in range(10)]
    write(kafka, [record(job) for job, _ in jobs[:3]])
    until(ingest, lambda: len(states(ledger)) == 3)
    embedded_kafka.kill()
    embedded_kafka.restart()
    ensure_topics(kafka)
    write(kafka, [record(job) for job, _ in jobs[3:]])
    if not runs_on:
        ingest.close()
        ingest = ingests(kafka, name="b")

    def all_read():
        try:
            ingest.once(lambda hint: None)
        except AWAY:
            return False
        return len(states(ledger)) == 10

    eventually(all_read)
    eventually(lambda: ingest.once(lambda hint: None) or done_with(ledger, kafka, Topic.GENERATION) == 7)


def test_what_a_producer_took_back_is_not_taken(ledger, apache_kafka, fresh_prefix, ingests):
    """Of transactions only those that were committed count, and what comes after an abort is read.

    Not on the embedded Tansu, which gives out what was aborted, too.
    """
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka)
    jobs = [keyed(number) for number in range(4)]
    producer = KafkaProducer(**kafka.client_options(), transactional_id=f"{kafka.prefix}t")
    producer.init_transactions()
    for (job, _), keep in zip(jobs, (False, True, False, True), strict=True):
        producer.begin_transaction()
        sent = record(job)
        producer.send(kafka.topic(Topic.GENERATION), value=sent.value, headers=list(sent.headers), partition=0)
        producer.flush()
        if keep:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    producer.close()
    ingest = ingests(kafka)
    until(ingest, lambda: len(states(ledger)) >= 2)
    write(kafka, [record(generation(idempotency_key="last"))])
    until(ingest, lambda: len(states(ledger)) >= 3)
    assert set(states(ledger)) == {jobs[1][1], jobs[3][1], generation(idempotency_key="last").job_id("")}


def test_a_transaction_that_stays_open_is_named(ledger, apache_kafka, fresh_prefix, ingests, monkeypatch):
    """What lies behind it in its partition waits, all others go on; when it ends, nothing is left to tell."""
    monkeypatch.setattr(partition_watch, "LASTS", 0.5)
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
    until(ingest, ledger.troubles)
    assert set(states(ledger)) == {jobs[2][1]}
    [trouble] = ledger.troubles()
    assert trouble.subject == f"ingest {kafka.topic(Topic.GENERATION)}-0"
    assert "from offset 0 on wait for a transaction" in trouble.reason
    assert "wait for a transaction" in ingest.once(lambda hint: None).why
    producer.commit_transaction()
    producer.close()
    until(ingest, lambda: len(states(ledger)) == 3 and not ledger.troubles())


def test_a_partition_that_the_broker_cannot_read_holds_no_other(
    ledger, apache_kafka, fresh_prefix, ingests, monkeypatch
):
    """It is named, with the broker's words; jobs of the other partitions are taken all the while."""
    monkeypatch.setattr(partition_watch, "LASTS", 0.5)
    kafka = apache_kafka.settings(fresh_prefix)
    ensure_topics(kafka)
    jobs = [keyed(number) for number in range(4)]
    write(kafka, [record(jobs[0][0]), record(jobs[1][0], partition=1)])
    [segment] = apache_kafka.folder.glob(f"kafka/log/{kafka.topic(Topic.GENERATION)}-0/*.log")
    with segment.open("r+b") as file:  # under the broker's hands: with such a file it would not start
        file.seek(8)
        file.write((5).to_bytes(4, "big"))  # a batch shorter than its own head
    ingest = ingests(kafka)
    until(ingest, ledger.troubles)
    [trouble] = ledger.troubles()
    assert trouble.subject == f"ingest {kafka.topic(Topic.GENERATION)}-0"
    assert "cannot be read at offset 0" in trouble.reason
    write(kafka, [record(jobs[2][0], partition=1), record(jobs[3][0], partition=2)])
    until(ingest, lambda: set(states(ledger)) == {job_id for _, job_id in jobs[1:]})


def test_what_the_client_raises_for_one_partition_holds_no_other(ledger, kafka, ingests, monkeypatch):
    """Such as an answer without a whole batch: named with the client's words, looked at again, and over when it is."""
    monkeypatch.setattr(partition_watch, "LASTS", 0.5)
    jobs = [keyed(number) for number in range(3)]
    ingest = ingests(kafka)
    until(ingest, lambda: ingest._consumer and ingest._consumer.assignment())
    parse = ingest._fetches._parse

    def fail(completed):
        if completed.topic_partition == (kafka.topic(Topic.GENERATION), 0):
            raise KafkaError("no whole batch")
        return parse(completed)

    ingest._fetches._parse = fail
    write(kafka, [record(job, partition=number) for number, (job, _) in enumerate(jobs)])
    until(ingest, lambda: len(states(ledger)) == 2 and ledger.troubles())
    assert set(states(ledger)) == {job_id for _, job_id in jobs[1:]}
    [trouble] = ledger.troubles()
    assert trouble.reason.endswith("no whole batch; the other partitions go on")
    ingest._fetches._parse = parse
    until(ingest, lambda: len(states(ledger)) == 3 and not ledger.troubles())


def test_a_bridge_without_partitions_says_so(ledger, kafka, ingests, monkeypatch):
    """In the ledger and to its loop, on each broker; with the first partition that is over."""
    monkeypatch.setattr(partition_watch, "LASTS", 0.0)
    shared = replace(kafka, groups=True)
    ingest = ingests(shared)
    first = ingest.once(lambda hint: None)
    assert "no partition to read" in first.why
    assert [trouble.subject for trouble in ledger.troubles()] == ["ingest"]
    until(ingest, lambda: ingest._consumer.assignment() and not ledger.troubles())


def test_a_broker_that_answers_no_fetch_is_named(ledger, embedded_kafka, fresh_prefix, ingests, monkeypatch):
    """The library tries again for ever, and would say nothing to the loop. When it answers again, that is over."""
    monkeypatch.setattr("headrace_workers.bridge.ingest._SILENCE", 2.0)
    kafka = embedded_kafka.settings(fresh_prefix)
    ensure_topics(kafka)
    ingest = ingests(kafka)
    until(ingest, lambda: ingest._consumer is not None and ingest._consumer.assignment())

    def waits_for():
        try:
            waits = ingest.once(lambda hint: None)
        except AWAY as error:
            waits = awaited(error)
        return waits.what if waits else "nothing"

    eventually(lambda: waits_for() == "nothing")
    embedded_kafka.freeze()
    try:
        eventually(lambda: waits_for() == "Kafka", 60)
    finally:
        embedded_kafka.thaw()
    eventually(lambda: waits_for() == "nothing", 60)


@pytest.mark.parametrize("groups", [True, False])
def test_a_consumer_that_fails_while_it_opens_is_closed(ledger, kafka, ingests, monkeypatch, groups):
    """Its connections and threads are not left behind at every try."""
    closed = []
    close = KafkaConsumer.close
    monkeypatch.setattr(KafkaConsumer, "close", lambda self, **options: closed.append(self) or close(self, **options))
    for step in ("partitions_for_topic", "subscribe") if groups else ("assign", "seek"):
        with monkeypatch.context() as patched:
            patched.setattr(KafkaConsumer, step, lambda *_: (_ for _ in ()).throw(KafkaError("gone")))
            with pytest.raises(KafkaError):
                ingests(replace(kafka, groups=groups), name="a").once(lambda hint: None)
    assert len(closed) == 2


def test_duplicates_are_passed_over(ledger, kafka, ingests):
    """The same job sent again, and the whole log read again by a group that lost its offsets, add nothing."""
    job, job_id = keyed(1)
    write(kafka, [record(job), record(job), record(value=b"")])
    ingest = ingests(kafka)
    until(ingest, lambda: states(ledger) and ledger.dead(DeadFilter()))
    for name, offset in [(p, 0) for p in ingest._consumer.assignment()]:
        ingest._consumer.seek(name, offset)
    last, last_id = keyed(2)
    write(kafka, [record(last)])
    until(ingest, lambda: last_id in states(ledger))
    assert set(states(ledger)) == {job_id, last_id}
    assert len(ledger.dead(DeadFilter())) == 1


def test_a_full_ledger_pauses_and_resumes(ledger, kafka, ingests, monkeypatch):
    """While it holds the bound nothing more is taken and the group stays ours; with room again it goes on."""
    full = [True]
    monkeypatch.setattr(ledger, "active_jobs", lambda: 10 if full[0] else 8)
    jobs = [keyed(number) for number in range(4)]
    write(kafka, [record(job) for job, _ in jobs])
    ingest = ingests(kafka, max_active=10)
    until(ingest, lambda: ingest._consumer.assignment() and ingest._consumer.paused())
    taken = len(states(ledger))  # the first poll may have been quicker than the assignment
    more = [keyed(number) for number in range(4, 8)]
    write(kafka, [record(job) for job, _ in more])
    for _ in range(15):
        ingest.once(lambda hint: None)
    assert len(states(ledger)) == taken
    full[0] = False
    until(ingest, lambda: len(states(ledger)) == 8)


def test_a_log_that_began_anew_loses_no_refusal(ledger, embedded_kafka, fresh_prefix, ingests):
    """A broker in memory gives out the same offsets after a restart: another bad record is another dead letter."""
    kafka = embedded_kafka.settings(fresh_prefix)
    for expected in (1, 2):
        ensure_topics(kafka)
        write(kafka, [record(value=b"bad")])
        ingest = ingests(kafka)
        until(ingest, lambda expected=expected: len(ledger.dead(DeadFilter())) == expected)
        ingest.close()
        embedded_kafka.kill()
        embedded_kafka.restart()
