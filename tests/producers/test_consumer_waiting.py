"""Waiting for the ends of jobs of one's own: none is lost, and who cannot come is told."""

from itertools import islice

import pytest
from tests.producers.ends import A, B, C, result

from headrace_producers import ResultReader, results
from headrace_schemas import DeadLetter
from headrace_schemas.errors import Category, ConfigurationError, Unavailable
from headrace_schemas.job import derive_job_id


def refusal(job_id, category=Category.INVALID, topic="t"):
    """A dead letter of a record that made no job."""
    return DeadLetter(
        refers_to=job_id, category=category, reason="no", stage="ingest", topic=topic, size=1, original="x",
        encoding="utf-8",
    )  # fmt: skip


@pytest.mark.parametrize("partitions", [4])
def test_waiting_for_one_loses_no_other(kafka, publish):
    with ResultReader(kafka) as reader:
        publish(("1", result(B)), ("2", result(A)), ("3", result(C)))
        assert [received.job_id for received in reader.read(job_ids=[A], timeout=120)] == [A]
        assert [received.job_id for received in reader.read(job_ids=B, timeout=120)] == [B]
        assert next(reader.read(timeout=120)).job_id == C
        assert list(reader.read(timeout=0)) == []


def test_an_iteration_that_is_left_is_gone_on_with(kafka, publish):
    with ResultReader(kafka) as reader:
        publish(*[(str(number), result(A)) for number in range(5)])
        seen = []
        while len(seen) < 5:
            for received in reader.read(timeout=120):
                seen.append(received.envelope.id)
                break
        assert seen == ["0", "1", "2", "3", "4"]


def test_what_a_waiting_reader_keeps_is_bounded_and_nothing_is_lost(kafka, publish):
    many = [(str(number), result(derive_job_id("default", str(number)))) for number in range(40)]
    with ResultReader(kafka, kept_bytes=2_000) as reader:
        publish(*many, ("last", result(A)))
        assert [received.envelope.id for received in reader.read(job_ids=[A], timeout=120)] == ["last"]
        assert 0 < len(reader._unread) < 20
        wanted = [event.job_id for _, event in many[::4]]
        assert {received.job_id for received in reader.read(job_ids=wanted, timeout=120)} == set(wanted)
        rest = [received.envelope.id for received in islice(reader.read(timeout=120), 30)]
        assert sorted(rest) == sorted({str(number) for number in range(40) if number % 4})
        assert list(reader.read(timeout=0.2)) == []


@pytest.mark.parametrize("category", [Category.INVALID, Category.CONFLICT, Category.EXPIRED])
def test_who_waits_for_a_job_that_was_refused_is_told(kafka, publish, category):
    with ResultReader(kafka) as reader:
        publish(("1", refusal(A, category)), ("2", result(B)))
        received = {row.waited_for: row for row in reader.read(job_ids=[A, B], timeout=120)}
    assert received.keys() == {A, B}
    assert (received[A].job_id, received[A].refers_to, received[A].event.category) == (None, A, category)
    assert (received[B].job_id, received[B].refers_to) == (B, None)


def test_a_refused_wish_to_cancel_ends_no_waiting(kafka, publish):
    with ResultReader(kafka) as reader:
        publish(("1", refusal(A, Category.CONFLICT, topic="jobs.cancellation")), ("2", result(A)))
        assert [received.envelope.id for received in reader.read(job_ids=[A], timeout=120)] == ["2"]


@pytest.mark.parametrize("kafka", ["embedded_kafka"], indirect=True)
def test_an_interrupted_read_passes_over_nothing(kafka, publish, monkeypatch):
    with ResultReader(kafka) as reader:
        publish(*[(str(number), result(A)) for number in range(5)])
        client = reader._topics._client
        poll = client.poll

        def interrupted(**options):
            if poll(**options):
                raise KeyboardInterrupt
            return {}

        monkeypatch.setattr(client, "poll", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(reader.read(timeout=120))
        monkeypatch.undo()
        rows = reader.read(timeout=120)
        assert [next(rows).envelope.id for _ in range(5)] == ["0", "1", "2", "3", "4"]


def test_waiting_ends_when_the_time_is_up(kafka):
    assert list(results(kafka, job_ids=[A], timeout=0.2)) == []


@pytest.mark.parametrize("partitions", [4])
def test_what_is_there_is_read_whole_however_slow_the_broker_is(kafka, publish, monkeypatch):
    publish(*[(str(number), result(A)) for number in range(5)], ("5", result(B)))
    with ResultReader(kafka, from_beginning=True) as reader:
        topics, left = reader._topics, iter(range(3))
        poll = topics._client.poll

        def slow(**options):
            return {} if topics._ends and next(left, None) is not None else poll(**options)

        monkeypatch.setattr(topics._client, "poll", slow)
        assert sorted(received.envelope.id for received in reader.read_existing()) == ["0", "1", "2", "3", "4", "5"]
        assert list(reader.read_existing()) == []
        publish(("6", result(A)))
        assert [received.envelope.id for received in reader.read_existing()] == ["6"]


@pytest.mark.parametrize("kafka", ["embedded_kafka"], indirect=True)
def test_records_that_do_not_come_are_no_end(kafka, publish, monkeypatch):
    publish(("0", result(A)), ("1", result(A)))
    with ResultReader(kafka, from_beginning=True) as reader:
        assert [received.envelope.id for received in reader.read_existing()] == ["0", "1"]
        topics, note_ends = reader._topics, reader._topics.note_ends

        def note_more(seconds):
            note_ends(seconds)
            topics._ends = {place: end + 1 for place, end in topics._ends.items()}

        monkeypatch.setattr(topics, "note_ends", note_more)
        with pytest.raises(Unavailable, match=r"the broker sent nothing for 0\.1 s"):
            list(reader.read_existing(silence=0.1))


def test_a_group_reader_cannot_tell_what_is_there(kafka):
    with pytest.raises(ConfigurationError, match="group"):
        ResultReader(kafka, group="g").read_existing()
