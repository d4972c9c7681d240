"""Kafka to ledger where the ledger or the log was restored, as docs/how-to/back-up-and-restore.md says."""

import re
import shutil
from contextlib import closing, suppress

import pytest
from sqlalchemy import delete
from tests.services.backup import dump, restore
from tests.services.eventually import eventually
from tests.workers.core.ledger.conftest import tables_of
from tests.workers.ledger_jobs import claim_one
from tests.workers.runtime.bridge.broker import write
from tests.workers.runtime.bridge.ingesting import done_with, keyed, states, until
from tests.workers.runtime.bridge.records import record
from tests.workers.runtime.worker.running import answered, run_all, runner

from headrace_producers.admin import cluster_id, ensure_topics
from headrace_schemas import Category, Topic
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Dead
from headrace_workers.core.ledger.positions import Position, Reread
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.outage import KafkaUnavailable
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS as JOB_ROWS
from headrace_workers.core.tables import STEPS

JOBS = [keyed(number) for number in range(40)]


def ids(*numbers):
    return {JOBS[number][1] for number in numbers}


def publish(kafka, *numbers, partition=0):
    write(kafka, [record(JOBS[number][0], partition=partition) for number in numbers])


def taken(ledger, *numbers):
    """Whether the ledger has these jobs."""
    return ids(*numbers) <= states(ledger).keys()


def until_back(ingest, condition):
    """Poll until the condition holds; the broker may be away at first."""

    def look():
        with suppress(KafkaUnavailable):
            ingest.once(lambda _: None)
        return condition()

    return eventually(look, 120)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request, tmp_path):
    """The URL of each database, with a ledger's tables."""
    yield from tables_of(request, tmp_path)


@pytest.fixture
def ledger(ledger_url):
    with closing(Ledger.at(ledger_url)) as ledger:
        yield ledger


@pytest.mark.parametrize("last", [(), (8,)], ids=["and nothing came since", "and more came since"])
def test_a_restored_ledger_is_filled_again_by_the_bridge_that_lives(ledger, ledger_url, kafka, ingests, tmp_path, last):
    """It goes on from the restored position: what was read since is read once more, whether or not something comes."""
    ingest = ingests(kafka)
    publish(kafka, 0, 1, 2)
    until(ingest, lambda: taken(ledger, 0, 1, 2))
    dump(ledger_url, tmp_path / "dump")
    publish(kafka, *range(3, 8))
    until(ingest, lambda: taken(ledger, *range(8)))
    restore(ledger_url, tmp_path / "dump")
    assert states(ledger).keys() == ids(0, 1, 2)
    publish(kafka, *last)
    until(ingest, lambda: taken(ledger, *range(8), *last))
    assert states(ledger).keys() == ids(*range(8), *last)
    ingest.close()
    assert done_with(ledger, kafka, Topic.GENERATION) == 8 + len(last)
    (told,) = ledger.overview().incidents
    assert "it was read up to offset 8" in told.reason


def test_nothing_is_written_behind_a_gap(ledger, ledger_url, kafka, ingests, tmp_path, monkeypatch):
    ingest = ingests(kafka)
    publish(kafka, 0)
    until(ingest, lambda: taken(ledger, 0))
    dump(ledger_url, tmp_path / "dump")
    publish(kafka, 1, 2)
    until(ingest, lambda: taken(ledger, 1, 2))
    restore(ledger_url, tmp_path / "dump")
    monkeypatch.setattr(ledger, "share", lambda *_: ingest._partitions._mine)
    monkeypatch.setattr(ledger, "positions", lambda: {place: at.next for place, at in ingest._partitions._at.items()})
    publish(kafka, 3)
    until(ingest, lambda: taken(ledger, 3))
    assert states(ledger).keys() == ids(0, 1, 2, 3)


@pytest.mark.parametrize("partitions", [4])
def test_bridges_that_take_over_leave_no_gap_in_a_restored_ledger(ledger, ledger_url, kafka, ingests, tmp_path):
    """The one has read on since the dump, the other takes over, and the one that lost its share still polls."""
    first, second = ingests(kafka, name="a"), ingests(kafka, name="b")
    publish(kafka, 0, 1)
    until(first, lambda: taken(ledger, 0, 1))
    dump(ledger_url, tmp_path / "dump")
    publish(kafka, *range(2, 7))
    until(first, lambda: taken(ledger, *range(7)))
    first._partitions._ask_at = float("inf")  # it does not hear yet that it lost its share
    eventually(lambda: second.once(lambda _: None) or second._consumer)  # the lease of the first has run out
    restore(ledger_url, tmp_path / "dump")
    publish(kafka, *range(7, 10))

    def all_there():
        for ingest in (first, second):
            ingest.once(lambda _: None)
        return taken(ledger, *range(10))

    eventually(all_there)
    assert states(ledger).keys() == ids(*range(10))
    assert done_with(ledger, kafka, Topic.GENERATION) == 10


def half(tasks):
    """Answer every second job, and let the others end in `dead`."""
    even = ids(*range(0, len(JOBS), 2))
    return [answered(task) if task.job_id in even else Dead(Category.PERMANENT, "no") for task in tasks]


def said(ledger):
    """All events that wait to be published: whose they are, and their ids."""
    return {(row.record.key, row.record.headers["ce_id"]) for row in ledger.outbox(99)}


def test_what_was_done_since_the_dump_is_done_again_under_the_same_ids(ledger, ledger_url, kafka, ingests, tmp_path):
    ingest = ingests(kafka)
    publish(kafka, 0, 1)
    until(ingest, lambda: taken(ledger, 0, 1))
    run_all(ledger, half)
    dump(ledger_url, tmp_path / "dump")
    publish(kafka, *range(2, 8))
    until(ingest, lambda: taken(ledger, *range(8)))
    held = claim_one(ledger, limit=2)
    run_all(ledger, half)
    before = said(ledger)
    restore(ledger_url, tmp_path / "dump")
    assert len(said(ledger)) == 2
    until(ingest, lambda: taken(ledger, *range(8)))
    runner(ledger, half).run(held.id)
    assert len(said(ledger)) == 2
    run_all(ledger, half)
    after = said(ledger)
    assert before < after
    assert {key for key, _ in after} == ids(*range(8))
    assert len(after) == 8
    assert {state for job, state in states(ledger).items() if job in ids(1, 3, 5, 7)} == {"dead"}


def test_what_the_ledger_has_forgotten_is_not_run_again(ledger, kafka, ingests):
    ingest = ingests(kafka, retention=0.0)
    publish(kafka, 0, 1, 2)
    until(ingest, lambda: taken(ledger, 0, 1, 2))
    ingest.close()
    with writing(ledger.engine) as tx:  # as `prune` does
        for table, column in ((STEPS, STEPS.c.job_id), (JOB_ROWS, JOB_ROWS.c.id)):
            tx.execute(delete(table).where(column.in_(ids(0, 1))))
    [(place, at)] = [(place, at) for place, at in ledger.full_positions().items() if at.next]
    ledger.go_back(place, at.next, Position(0, (), Reread(at.next, at.fingerprints[-1].at)))
    publish(kafka, 3)
    until(ingest, lambda: taken(ledger, 3))
    assert states(ledger).keys() == ids(2, 3)
    letters = ledger.dead(DeadFilter())
    assert {letter.refers_to for letter in letters} == ids(0, 1)
    assert all("read before, and its log was restored" in letter.reason for letter in letters)


@pytest.fixture
def restored_log(durable_broker, tmp_path):
    log, backup = durable_broker.folder / "kafka" / "log", tmp_path / "backup"

    class Log:
        def back_up(self):
            durable_broker.stop()
            shutil.copytree(log, backup)
            durable_broker.start()

        def restore(self):
            durable_broker.stop()
            shutil.rmtree(log)
            shutil.copytree(backup, log)
            durable_broker.start()

    return Log()


@pytest.mark.slow
@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("lives", [True, False], ids=["the same bridge", "another bridge"])
def test_a_restored_log_is_read_again_from_where_it_matches(ledger, durable_broker, ingests, restored_log, lives):
    """Also when it holds more records than were read by then; people are told."""
    kafka = durable_broker.settings()
    ensure_topics(kafka, partitions=1)
    ingest = ingests(kafka)
    publish(kafka, 0, 1, 2)
    until_back(ingest, lambda: taken(ledger, 0, 1, 2))
    restored_log.back_up()
    publish(kafka, *range(3, 8))
    until_back(ingest, lambda: taken(ledger, *range(8)))
    if not lives:
        ingest.close()
    restored_log.restore()
    publish(kafka, *range(10, 25))
    ingest = ingest if lives else ingests(kafka, name="b")
    until_back(ingest, lambda: taken(ledger, *range(10, 25)))
    assert states(ledger).keys() == ids(*range(8), *range(10, 25))
    # While the broker was away, a bridge may have told of more; that ends with its next looks.
    (trouble,) = until_back(ingest, lambda: len(found := ledger.overview().incidents) == 1 and found)
    assert trouble.subject == f"{kafka.topic(Topic.GENERATION)}-0"
    assert "read up to offset 8, and matches up to 3" in trouble.reason
    ingest.close()
    assert done_with(ledger, kafka, Topic.GENERATION) == 18


@pytest.mark.slow
@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_an_emptied_log_of_the_same_cluster_is_reported(ledger, durable_broker, ingests):
    """As Compose's broker begins again after its volume was removed: its image always names the same cluster."""
    kafka, log = durable_broker.settings(), durable_broker.folder / "kafka" / "log"
    cluster = cluster_id(kafka)
    ensure_topics(kafka, partitions=1)
    ingest = ingests(kafka)
    publish(kafka, 0, 1, 2)
    until_back(ingest, lambda: taken(ledger, 0, 1, 2))
    durable_broker.stop()
    properties = (log / "meta.properties").read_text()
    shutil.rmtree(log)
    durable_broker.start()  # formats it, as another cluster
    durable_broker.stop()
    made = (log / "meta.properties").read_text()
    same = re.search("cluster.id=.*", properties)
    assert same is not None
    (log / "meta.properties").write_text(re.sub("cluster.id=.*", same.group(), made))
    durable_broker.start()
    assert cluster_id(kafka) == cluster
    ensure_topics(kafka, partitions=1)
    publish(kafka, 3)
    until_back(ingest, lambda: taken(ledger, 3))
    (trouble,) = until_back(ingest, lambda: len(found := ledger.overview().incidents) == 1 and found)
    assert trouble.subject == f"{kafka.topic(Topic.GENERATION)}-0"
    assert "read up to offset 3, and matches up to 0" in trouble.reason
    assert states(ledger).keys() == ids(0, 1, 2, 3)
