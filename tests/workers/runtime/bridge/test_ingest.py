import json
import time
from dataclasses import replace
from itertools import pairwise

import pytest
from kafka import TopicPartition
from sqlalchemy import select
from tests.services.eventually import eventually
from tests.services.header_names import OddName
from tests.workers.runtime.bridge.broker import write
from tests.workers.runtime.bridge.ingesting import done_with, keyed, states, until
from tests.workers.runtime.bridge.records import cancel, evaluation, generation, record, replaced, review

from headrace_schemas import Topic
from headrace_schemas.errors import Unavailable
from headrace_schemas.topics import INBOUND
from headrace_workers.core.admission import AdmissionCheck
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger import positions
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import reading
from headrace_workers.core.tables import OUTBOX, POSITIONS
from headrace_workers.features.quality.store import Labels
from headrace_workers.runtime.bridge import partitions
from headrace_workers.runtime.wire.hints import Hint

ALL = 4 * len(INBOUND)  # partitions that are read


def test_good_and_bad_records_are_told_apart_and_it_goes_on(ledger, kafka, ingests):
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


def test_each_broker_tells_where_its_logs_end(ledger, kafka, ingests, monkeypatch):
    """So that the ledger knows until when all is read, also of partitions that hold nothing."""
    monkeypatch.setattr(partitions, "NOTE_EVERY", 0.0)
    write(kafka, [record(job) for job, _ in map(keyed, range(3))])
    begun, ingest = ledger.now(), ingests(kafka)
    until(ingest, lambda: min([row.read_until or 0 for row in ledger.read(select(POSITIONS))], default=0) > begun)
    assert len(states(ledger)) == 3


def test_the_lag_of_each_partition_is_known_also_while_the_ledger_is_full(ledger, kafka, ingests, monkeypatch):
    monkeypatch.setattr(partitions, "NOTE_LAG_EVERY", 0.0)

    def lag():
        with reading(ledger.engine) as tx:
            return sum(positions.lags(tx).values())

    write(kafka, [record(job) for job, _ in map(keyed, range(3))])
    ingest = ingests(kafka, max_active=3)
    until(ingest, lambda: len(states(ledger)) == 3)
    time.sleep(1.1)  # it looks once a second how full the ledger is
    until(ingest, lambda: lag() == 0)
    write(kafka, [record(job) for job, _ in map(keyed, range(3, 6))])
    write(kafka, [record(keyed(6)[0])])  # Tansu tells of the end of a log by the beginning of its last batch
    until(ingest, lambda: lag() == 4)
    assert len(states(ledger)) == 3


def test_header_names_that_are_no_utf8_stop_nothing(ledger, kafka, ingests):
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


def test_offsets_are_committed_only_after_the_write(ledger, kafka, ingests, monkeypatch):
    """A ledger that fails once costs nothing: what was polled is read again, and nothing is there twice."""
    jobs = [keyed(number) for number in range(5)]
    write(kafka, [record(job) for job, _ in jobs] + [record(value=b"")])
    ingest, write_all, failures = ingests(kafka), ledger.ingest, [Unavailable("away")]

    def flaky(*args):
        if failures:
            assert set(ledger.positions().values()) == {0}
            raise failures.pop()
        return write_all(*args)

    monkeypatch.setattr(ledger, "ingest", flaky)
    with pytest.raises(Unavailable):
        until(ingest, lambda: False)
    assert states(ledger) == {}
    until(ingest, lambda: len(states(ledger)) == 5 and len(ledger.dead(DeadFilter())) == 1)
    ingest.close()
    assert done_with(ledger, kafka, Topic.GENERATION) == 6


class Put(SystemClock):
    by = 0.0

    def monotonic(self):
        return super().monotonic() + self.by


@pytest.mark.parametrize("partitions", [4])
def test_records_that_take_long_to_admit_are_written_a_few_at_a_time(ledger, kafka, ingests):
    """A bridge that compiled many formats in one round would count as stuck, end, and begin with the same again."""
    clock, rounds = Put(), []

    class Slow(AdmissionCheck):
        def examine(self, _job):
            clock.by += 2.0

    jobs = [keyed(number) for number in range(9)]
    write(kafka, [record(job, partition=number % 2) for number, (job, _) in enumerate(jobs)])
    ingest = ingests(kafka, clock=clock)
    ingest._rules = replace(ingest._rules, checks=[Slow()])

    def all_there():
        rounds.append(len(states(ledger)))
        return rounds[-1] == 9

    until(ingest, all_there)
    assert max(after - before for before, after in pairwise([0, *rounds])) <= 3
    ingest.close()
    assert done_with(ledger, kafka, Topic.GENERATION) == 9
    assert ledger.dead(DeadFilter()) == []


@pytest.mark.parametrize("partitions", [4])
def test_bridges_share_the_partitions_and_take_over_from_each_other(ledger, kafka, ingests):
    first, second, third = (ingests(kafka, name=name) for name in "abc")
    jobs = [keyed(number) for number in range(9)]
    write(kafka, [record(job, partition=number % 3) for number, (job, _) in enumerate(jobs[:3])])
    until(first, lambda: len(states(ledger)) == 3)
    assert len(first._consumer.assignment()) == ALL

    def halves():
        one, other = reads(first), reads(second)
        return len(one) == len(other) == ALL // 2 and not one & other

    eventually(halves)
    write(kafka, [record(job, partition=number % 3) for number, (job, _) in enumerate(jobs[3:6])])
    until(second, lambda: len(states(ledger)) == 6 and len(reads(second)) == ALL)  # the first is silent, as if killed
    positions = [second._consumer.position(TopicPartition(kafka.topic(Topic.GENERATION), n)) for n in range(4)]
    assert positions == [2, 2, 2, 0]
    second.close()
    write(kafka, [record(job) for job, _ in jobs[6:]])
    until(third, lambda: len(states(ledger)) == 9)
    third.close()
    assert done_with(ledger, kafka, Topic.GENERATION) == 9


def reads(ingest):
    """What a bridge reads after one more poll."""
    ingest.once(lambda hint: None)
    return ingest._consumer.assignment() if ingest._consumer else set()


def test_a_full_ledger_pauses_and_resumes(ledger, kafka, ingests, monkeypatch):
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


def test_a_full_ledger_takes_cancellations(ledger, kafka, ingests, monkeypatch):
    job, job_id = keyed(1)
    write(kafka, [record(job)])
    ingest = ingests(kafka, max_active=10)
    until(ingest, lambda: job_id in states(ledger))
    monkeypatch.setattr("headrace_workers.runtime.bridge.ingest.LOOK_EVERY", 0.0)
    monkeypatch.setattr(ledger, "active_jobs", lambda: 10)
    until(ingest, ingest._consumer.paused)
    write(kafka, [record(cancel(job_id))])
    until(ingest, lambda: states(ledger)[job_id] == "cancelled")


def test_the_ledger_is_counted_only_after_something_came_in(ledger, kafka, ingests, monkeypatch):
    counted, count = [], ledger.active_jobs
    monkeypatch.setattr("headrace_workers.runtime.bridge.ingest.LOOK_EVERY", 0.0)
    monkeypatch.setattr(ledger, "active_jobs", lambda: counted.append(count()) or counted[-1])
    ingest = ingests(kafka)
    for number in range(3):
        until(ingest, lambda: ingest._consumer is not None)
        for _ in range(3):
            ingest.once(lambda hint: None)
        assert counted == list(range(number + 1))
        job, job_id = keyed(number)
        write(kafka, [record(job)])
        until(ingest, lambda job_id=job_id: job_id in states(ledger))


def test_labels_are_taken_and_those_of_unknown_jobs_are_told(ledger, kafka, ingests):
    job, job_id = keyed(1)
    write(kafka, [record(job)])
    ingest = ingests(kafka)
    until(ingest, lambda: job_id in states(ledger))
    unknown = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"
    write(
        kafka,
        [record(review(job_id)), record(review(job_id)), record(review(unknown)), record(review(job_id, who="b"))],
    )
    until(ingest, lambda: len(list(ledger.of(Labels).all())) == 2 and ledger.dead(DeadFilter()))
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.refers_to, letter.topic, letter.category) == (None, unknown, "reviews", "invalid")
    assert "has no job" in letter.reason
    assert states(ledger) == {job_id: "active"}


def test_a_cancellation_tells_dispatch_and_relay(ledger, kafka, ingests):
    job, job_id = keyed(1)
    write(kafka, [record(job)])
    ingest, told = ingests(kafka), []
    until(ingest, lambda: job_id in states(ledger))
    write(kafka, [record(cancel(job_id))])
    eventually(lambda: ingest.once(told.append) or told)
    assert told == [Hint.WORK, Hint.EVENTS, Hint.ENDS]
    assert states(ledger) == {job_id: "cancelled"}
