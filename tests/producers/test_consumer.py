"""Reading the ends of jobs, on both brokers."""

from datetime import UTC, datetime

import pytest
from kafka import KafkaProducer
from tests.services.header_names import OddName

from headrace_producers import KafkaSettings, ResultReader, TopicMissing, results
from headrace_producers.seen import SeenIds
from headrace_schemas import DeadLetter, JobCancelled, Result
from headrace_schemas.codec import encode, topic_for, type_of
from headrace_schemas.envelope import Envelope
from headrace_schemas.errors import Category, ConfigurationError, Unavailable
from headrace_schemas.job import derive_job_id

NOW = datetime(2030, 1, 1, tzinfo=UTC)
A, B, C = (derive_job_id("default", key) for key in "abc")


def result(job_id):
    """A result of an evaluation, the shortest that there is."""
    return Result(job_id=job_id, tenant="default", status="completed", kind="evaluation", accepted_at=NOW)


def dead(job_id):
    """A dead letter."""
    return DeadLetter(
        job_id=job_id, category=Category.PERMANENT, reason="no", stage="generate", topic="t", size=1, original="x",
        encoding="utf-8",
    )  # fmt: skip


@pytest.fixture
def publish(kafka):
    """Publishes events as the bridge does, each under an id; waits until they are there."""
    # It lingers so that what is sent at once is one batch; the flush ends the wait.
    client = KafkaProducer(**kafka.client_options(), allow_auto_create_topics=False, linger_ms=1_000)

    def send(*pairs):
        for event_id, event in pairs:
            envelope = Envelope(id=event_id, type=type_of(event), source="/bridge", time=NOW, subject=event.job_id)
            headers, value = encode(event, envelope)
            key = (event.job_id or "").encode()
            client.send(kafka.topic(topic_for(event)), key=key, value=value, headers=headers)
        client.flush()

    yield send
    client.close()


def test_what_is_published_after_open_is_never_missed(kafka, publish):
    """The position is fixed by `open`: an answer that is there before the first read is read."""
    publish(("0", result(C)))
    with ResultReader(kafka) as reader:
        publish(("1", result(A)), ("2", dead(B)))
        received = list(reader.read(job_ids={A, B}, timeout=30))
    assert {(each.job_id, each.envelope.id) for each in received} == {(A, "1"), (B, "2")}


def test_what_was_there_before_open_is_not_read(kafka, publish):
    """A reader that begins at the end shows no answer from before, however many were published together."""
    publish(*[(str(number), result(A)) for number in range(5)], ("5", dead(B)), ("6", dead(B)))
    with ResultReader(kafka) as reader:
        publish(("7", result(A)), ("8", dead(B)))
        rows = reader.read(timeout=30)
        assert sorted(next(rows).envelope.id for _ in range(2)) == ["7", "8"]


def test_every_kind_of_end_is_read_and_each_event_once(kafka, publish):
    """Results, cancellations and dead letters come from the beginning; a second copy of an event does not."""
    cancelled = JobCancelled(job_id=B, tenant="default", reason="enough")
    publish(("1", result(A)), ("1", result(A)), ("2", cancelled), ("3", dead(C)), ("1", result(A)))
    with ResultReader(kafka, from_beginning=True) as reader:
        rows = reader.read(timeout=60)
        assert sorted(next(rows).envelope.id for _ in range(3)) == ["1", "2", "3"]
        assert list(reader.read(timeout=0.5)) == []


def test_records_that_are_no_events_are_passed_over(kafka, publish):
    """A record that breaks the contract is counted, and the next one is read."""
    client = KafkaProducer(**kafka.client_options())
    client.send(f"{kafka.prefix}results", key=A.encode(), value=b"no event").get(30)
    client.close()
    publish(("1", result(A)))
    with ResultReader(kafka, from_beginning=True) as reader:
        assert [each.envelope.id for each in reader.read(job_ids=[A], timeout=30)] == ["1"]
        assert reader.unreadable == 1


def test_header_names_that_are_no_utf8_hide_nothing(kafka, publish):
    """A record with such a header is passed over or read by what else is in it, and so are its neighbours."""
    client = KafkaProducer(**kafka.client_options())
    client.send(f"{kafka.prefix}results", key=A.encode(), value=b"", headers=[(OddName(b"\xff"), b"")]).get(30)
    client.close()
    publish(("1", result(A)))
    with ResultReader(kafka, from_beginning=True) as reader:
        assert [each.envelope.id for each in reader.read(job_ids=[A], timeout=30)] == ["1"]
        assert reader.unreadable == 1


def test_waiting_ends_when_the_time_is_up(kafka):
    """Without an answer the iteration ends by itself."""
    assert list(results(kafka, job_ids=[A], timeout=0.2)) == []


def test_a_group_goes_on_where_it_was(kafka, publish):
    """Readers of one group get what the group has not had."""
    publish(("1", result(A)), ("2", result(B)))
    with ResultReader(kafka, from_beginning=True, group=f"g.{kafka.prefix}") as reader:
        rows = reader.read(timeout=30)
        assert {next(rows).job_id, next(rows).job_id} == {A, B}
        assert list(reader.read(timeout=0.5)) == []
        # What was handed out is committed when more is asked for.
        rows.close()
        reader.commit()
    publish(("3", result(C)))
    with ResultReader(kafka, from_beginning=True, group=f"g.{kafka.prefix}") as reader:
        assert next(reader.read(timeout=30)).envelope.id == "3"


def test_a_new_group_begins_where_its_reader_was_opened(kafka, publish):
    """What came before is not read; what comes while the group forms is, and so is what comes between two readers."""
    publish(*[(str(number), result(A)) for number in range(5)])
    group = f"g.{kafka.prefix}"
    with ResultReader(kafka, group=group) as reader:
        publish(("5", result(A)), ("6", dead(B)))
        rows = reader.read(timeout=60)
        assert sorted(next(rows).envelope.id for _ in range(2)) == ["5", "6"]
        reader.commit()
    publish(("7", result(A)))
    with ResultReader(kafka, group=group) as reader:
        assert next(reader.read(timeout=60)).envelope.id == "7"


def test_a_reader_that_joins_a_group_at_work_changes_nothing_for_it(kafka, publish):
    """A second reader's end is not the group's: what the first has not read yet is still to be read."""
    group = f"g.{kafka.prefix}"
    with ResultReader(kafka, group=group) as first:
        publish(("1", result(A)), ("2", dead(B)))
        with ResultReader(kafka, group=group):
            pass
        rows = first.read(timeout=60)
        assert sorted(next(rows).envelope.id for _ in range(2)) == ["1", "2"]


def test_a_reader_cannot_move_a_group_that_reads_from_the_beginning(kafka, publish):
    """Where members are at work but have noted no position yet, a newcomer that would begin at the end notes none."""
    publish(*[(str(number), result(A)) for number in range(3)])
    group = f"g.{kafka.prefix}"
    with ResultReader(kafka, from_beginning=True, group=group) as first:
        rows = first.read(timeout=60)
        assert next(rows).envelope.id == "0"
        with ResultReader(kafka, group=group):
            pass
        assert [next(rows).envelope.id for _ in range(2)] == ["1", "2"]
    with ResultReader(kafka, from_beginning=True, group=group) as again:  # nothing was committed
        assert next(again.read(timeout=60)).envelope.id == "0"


def test_a_group_cannot_wait_for_jobs_of_ones_own(kafka):
    """With a group, others could get the answers that one waits for: refused."""
    with pytest.raises(ConfigurationError, match="group or job_ids"):
        next(results(kafka, job_ids=[A], group="g"))


def test_missing_topics_and_brokers_are_named(kafka):
    """A reader says which topic or which broker is not there."""
    with pytest.raises(TopicMissing, match=r"nowhere\.results"):
        ResultReader(KafkaSettings.at(kafka.address, "nowhere.")).open()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 "):
        ResultReader(KafkaSettings.at("127.0.0.1:1"), connect_timeout=0.5).open()


def test_seen_ids_are_bounded():
    """The memory of ids forgets the oldest first."""
    seen = SeenIds(2)
    assert [seen.is_new(event_id) for event_id in ("a", "b", "a", "c", "a")] == [True, True, False, True, True]
