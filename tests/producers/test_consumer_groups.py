"""Readers that share the ends of jobs as a group, and what a group remembers."""

import subprocess
import sys
import time

import pytest
from kafka import KafkaProducer
from tests.producers.ends import SOURCES, A, B, C, dead, result

from headrace_producers import ResultReader, consumer, end_topics, results
from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_schemas.job import derive_job_id


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Let a busy machine stand still. A reader that is silent for its session is put out of its group, and may note
    nothing; one that leaves tries to note its place for so many seconds.
    """
    monkeypatch.setattr(end_topics, "SESSION_MS", 120_000)
    monkeypatch.setattr(consumer, "COMMIT_SECONDS", 120.0)


@pytest.mark.parametrize("partitions", [4])
def test_a_group_goes_on_where_it_was(kafka, publish):
    publish(("1", result(A)), ("2", result(B)))
    with ResultReader(kafka, from_beginning=True, group=f"g.{kafka.prefix}") as reader:
        rows = reader.read(timeout=120)
        assert {next(rows).job_id, next(rows).job_id} == {A, B}
        assert list(reader.read(timeout=0.5)) == []
        # What was handed out is committed when more is asked for.
        rows.close()
        reader.commit()
    publish(("3", result(C)))
    with ResultReader(kafka, from_beginning=True, group=f"g.{kafka.prefix}") as reader:
        assert next(reader.read(timeout=120)).envelope.id == "3"


def test_a_new_group_begins_where_its_reader_was_opened(kafka, publish):
    publish(*[(str(number), result(A)) for number in range(5)])
    group = f"g.{kafka.prefix}"
    with ResultReader(kafka, group=group) as reader:
        publish(("5", result(A)), ("6", dead(B)))
        rows = reader.read(timeout=240)
        assert sorted(next(rows).envelope.id for _ in range(2)) == ["5", "6"]
        reader.commit()
    publish(("7", result(A)))
    with ResultReader(kafka, group=group) as reader:
        assert next(reader.read(timeout=240)).envelope.id == "7"


@pytest.mark.parametrize("kafka", ["apache_kafka"], indirect=True)
def test_a_reader_cannot_move_a_group_that_reads_from_the_beginning(kafka, publish):
    """Where members are at work but have noted no position yet, a newcomer that would begin at the end notes none."""
    publish(*[(str(number), result(A)) for number in range(3)])
    group = f"g.{kafka.prefix}"
    with ResultReader(kafka, from_beginning=True, group=group) as first:
        rows = first.read(timeout=240)
        assert next(rows).envelope.id == "0"
        with ResultReader(kafka, group=group):
            pass
        assert [next(rows).envelope.id for _ in range(2)] == ["1", "2"]
    with ResultReader(kafka, from_beginning=True, group=group) as again:  # nobody asked for what comes behind it
        assert next(again.read(timeout=240)).envelope.id == "2"


def test_a_group_cannot_wait_for_jobs_of_ones_own(kafka):
    """With a group, others could get the answers that one waits for: refused."""
    with pytest.raises(ConfigurationError, match="group or job_ids"):
        next(results(kafka, job_ids=[A], group="g"))
    with pytest.raises(ConfigurationError, match="group or job_ids"):
        ResultReader(kafka, group="g").read(job_ids=[A])


def test_only_what_one_went_on_from_is_done_with(kafka, publish):
    group = f"g.{kafka.prefix}"
    publish(*[(str(number), result(A)) for number in range(5)])
    with ResultReader(kafka, from_beginning=True, group=group) as reader:
        for received in reader.read(timeout=240):
            if received.envelope.id == "2":
                break
    with ResultReader(kafka, from_beginning=True, group=group) as reader:
        rows = reader.read(timeout=240)
        assert [next(rows).envelope.id for _ in range(2)] == ["2", "3"]
        reader.commit()  # and this says that the last is done with, too
    with ResultReader(kafka, from_beginning=True, group=group) as reader:
        assert next(reader.read(timeout=240)).envelope.id == "4"


def test_unreadable_records_do_not_hold_a_group(kafka, publish):
    group = f"g.{kafka.prefix}"
    client = KafkaProducer(**kafka.client_options())
    for _ in range(3):
        client.send(f"{kafka.prefix}results", key=A.encode(), value=b"no event").get(120)
    client.close()
    publish(("1", result(A)))
    with ResultReader(kafka, from_beginning=True, group=group) as reader:
        assert next(reader.read(timeout=240)).envelope.id == "1"
        assert reader.unreadable == 3
        assert list(reader.read(timeout=1)) == []
    with ResultReader(kafka, from_beginning=True, group=group) as reader:
        assert list(reader.read(timeout=4)) == []
        assert reader.unreadable == 0


@pytest.mark.parametrize("kafka", ["embedded_kafka"], indirect=True)
def test_a_group_of_the_embedded_broker_has_one_reader(kafka, publish):
    group = f"g.{kafka.prefix}"
    first = ResultReader(kafka, group=group).open()
    with pytest.raises(Unavailable, match="has a reader"):
        ResultReader(kafka, group=group).open()
    ResultReader(kafka, group=f"{group}other").open().close()
    first.close()
    ResultReader(kafka, group=group).open().close()


@pytest.mark.parametrize("kafka", ["embedded_kafka"], indirect=True)
def test_a_killed_reader_of_the_embedded_broker_leaves_its_group(kafka, publish):
    group = f"g.{kafka.prefix}"
    publish(*[(str(number), result(A)) for number in range(3)])
    program = f"""
import os
from headrace_producers import KafkaSettings, ResultReader
from dataclasses import replace
settings = replace(KafkaSettings.at("{kafka.address}", "{kafka.prefix}"), groups=False)
reader = ResultReader(settings, group="{group}", from_beginning=True)
rows = reader.read(timeout=120)
next(rows)
reader.commit()
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program], check=False, timeout=240, env=SOURCES)
    with ResultReader(kafka, group=group) as reader:
        assert next(reader.read(timeout=120)).envelope.id == "1"


@pytest.mark.parametrize("partitions", [4])
@pytest.mark.parametrize("kafka", ["apache_kafka"], indirect=True)
def test_readers_of_a_group_share_while_they_come_and_go(kafka, publish):
    group = f"g.{kafka.prefix}"
    publish(*[(str(number), result(derive_job_id("default", str(number)))) for number in range(100)])
    seen: set[str] = set()
    with ResultReader(kafka, from_beginning=True, group=group) as first:
        rows = first.read(timeout=240)
        seen |= {next(rows).envelope.id for _ in range(5)}
        with ResultReader(kafka, from_beginning=True, group=group) as second:
            until = time.monotonic() + 240
            while len(seen) < 60 and time.monotonic() < until:
                for reader in (first, second):
                    for received in reader.read(timeout=0.2):
                        seen.add(received.envelope.id)
                        if len(seen) % 7 == 0:
                            break
        for received in first.read(timeout=240):
            seen.add(received.envelope.id)
            if len(seen) == 100:
                break
    assert seen == {str(number) for number in range(100)}
