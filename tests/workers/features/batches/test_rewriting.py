"""Objects of an open batch's files that somebody removed from the store: each line still has one fate."""

import pytest
from sqlalchemy import delete
from tests.workers.features.batches.running import Running, dead, jobs, with_usage
from tests.workers.features.batches.test_requests import chat, embedding, vector
from tests.workers.files.stores import s3, store  # noqa: F401 - fixtures

from headrace_schemas.job import derive_job_id
from headrace_workers.core.json_lines import Read
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.batches.output_lines import _telling
from headrace_workers.features.batches.store.transactions import Batches


@pytest.fixture
def running(ledger, tmp_path, store):  # noqa: F811
    return Running(ledger, tmp_path, store=store)


def remove(running, *file_ids):
    for file_id in file_ids:
        running.store.remove([piece.path for piece in running.files.pieces(file_id)])


def forget(running, batch_id, *lines):
    ids = [derive_job_id("a", f"batch:{batch_id}:{line}") for line in lines]
    with writing(running.ledger.engine) as tx:
        tx.execute(delete(JOBS).where(JOBS.c.id.in_(ids)))


def begun(running):
    """A batch of which six lines have ended, and one not: its id."""
    lines = [
        *jobs(2),
        {"prompt": 5},
        {"prompt": "dies"},
        chat("c5"),
        embedding("e6", ["one", "two"]),
        {"prompt": "later", "model": "other"},
    ]
    batch_id = running.submit(lines)
    running.turn(2)
    dying = derive_job_id("a", f"batch:{batch_id}:4")
    running.end(lambda row: dead(row) if row.job_id == dying else with_usage(row))
    running.end(vector, queue="embed")
    running.turn(2)
    return batch_id


def facts(running, batch_id):
    """Everything that can be looked up of a batch, but for the order of lines."""
    batch = running.batch(batch_id)
    counted = ("state", "completed", "failed", "cached", "prompt_tokens", "completion_tokens", "spent", "reserved")
    files = running.output(batch_id), running.error_lines(batch_id)
    said = [sorted(lines, key=lambda line: line["line"]) for lines in files]
    return [getattr(batch, name) for name in counted], said


def test_what_was_removed_is_written_again(running):
    batch_id = begun(running)
    before = facts(running, batch_id)
    assert [len(lines) for lines in before[1]] == [4, 2]
    batch = running.batch(batch_id)
    remove(running, batch.output_file, batch.error_file)
    running.end(queue="model.other")
    running.settle()
    after = running.batch(batch_id)
    assert (after.state, after.completed, after.failed) == ("completed", 5, 2)
    assert (after.output_file, after.error_file) == (batch.output_file, batch.error_file)
    output, failed = facts(running, batch_id)[1]
    assert output[:-1] == before[1][0]
    assert output[-1]["line"] == 7
    assert failed == before[1][1]
    assert running.ledger.open_incidents() == []


def test_what_cannot_be_written_again_is_told_line_by_line(running):
    batch_id = begun(running)
    batch = running.batch(batch_id)
    forget(running, batch_id, 1, 4)
    remove(running, batch.output_file, batch.error_file)
    running.end(queue="model.other")
    running.settle()
    after = running.batch(batch_id)
    assert (after.state, after.completed, after.failed) == ("completed", 4, 3)
    assert [line["line"] for line in facts(running, batch_id)[1][0]] == [2, 5, 6, 7]
    assert running.errors(batch_id) == [(1, "lost"), (3, "invalid"), (4, "permanent")]
    words = [line["error"]["message"] for line in running.error_lines(batch_id) if line["line"] != 3]
    assert all(f"headrace batch retry-failed {batch_id}" in word for word in words)
    second, _ = running.again(batch_id)
    running.run()
    assert [line["line"] for line in running.output(second.id)] == [1, 4]


def test_a_file_of_which_all_is_lost_is_begun_anew(running):
    batch_id = running.submit([*jobs(1), {"prompt": "later", "model": "other"}])
    running.turn(2)
    running.end()
    running.turn(2)
    name = running.batch(batch_id).output_file
    forget(running, batch_id, 1)
    remove(running, name)
    running.end(queue="model.other")
    running.settle()
    batch = running.batch(batch_id)
    assert (batch.state, batch.completed, batch.failed, batch.output_file) == ("completed", 1, 1, name)
    assert [line["line"] for line in running.output(batch_id)] == [2]
    assert running.errors(batch_id) == [(1, "lost")]


def test_an_object_that_went_from_the_middle_is_found_at_the_end(running, monkeypatch):
    monkeypatch.setattr("headrace_workers.files.service.SMALL", 0)  # an object for each time
    batch_id = running.submit(jobs(6))
    running.turn(2)
    for _ in range(3):
        running.end(limit=1)
        running.turn()
    pieces = running.files.pieces(running.batch(batch_id).output_file)
    assert len(pieces) > 1
    running.store.remove([pieces[0].path])
    running.run()
    assert running.batch(batch_id).state == "completed"
    assert sorted(line["line"] for line in running.output(batch_id)) == [1, 2, 3, 4, 5, 6]
    kept = running.files.pieces(running.batch(batch_id).output_file)
    assert pieces[1] in kept


def test_a_store_without_anything_is_waited_for(running):
    batch_id = running.submit([*jobs(3), {"prompt": "later", "model": "other"}])
    running.turn(2)
    running.end()
    running.turn(2)
    batch = running.batch(batch_id)
    kept = {piece.path: running.store.read(piece.path) for piece in running.files.pieces(batch.output_file)}
    remove(running, batch.input_file, batch.output_file)
    running.end(queue="model.other")
    running.turn(3)
    assert "headrace batch cancel" in str(running.bulk.waits)
    assert [trouble.subject for trouble in running.ledger.open_incidents()] == [f"batches {batch_id}"]
    assert running.batch(batch_id).completed == 3
    for path, data in kept.items():
        running.store.write(path, [data])
    running.settle()
    assert (running.batch(batch_id).state, len(running.output(batch_id))) == ("completed", 4)
    assert running.ledger.open_incidents() == []


def test_a_batch_of_which_nothing_is_there_ends_when_it_is_cancelled(running):
    batch_id = running.submit([*jobs(2), {"prompt": "later", "model": "other"}])
    running.turn(2)
    running.end()
    running.turn(2)
    batch = running.batch(batch_id)
    remove(running, batch.input_file, batch.output_file)
    running.turn(2)
    running.ledger.of(Batches).cancel(batch_id)
    running.settle()
    assert running.batch(batch_id).state == "cancelled"
    assert running.errors(batch_id) == [(1, "lost"), (2, "lost"), (3, "batch_cancelled")]


@pytest.mark.integration
@pytest.mark.parametrize("store", ["memory"], indirect=True)
def test_who_writes_much_anew_says_that_it_goes_on(running):
    """Of a million lines it takes minutes, and a loop that is silent for two ends its process."""
    batch_id = running.submit([*jobs(1_001), {"prompt": "later", "model": "other"}])
    while running.turn() or running.end():
        pass
    beats = []
    remove(running, running.batch(batch_id).output_file)
    running.end(queue="model.other")
    running.bulk.once(running.heard.append, lambda: beats.append(len(beats)))
    assert len(beats) >= 2
    running.settle()
    assert (running.batch(batch_id).state, running.batch(batch_id).completed) == ("completed", 1_002)


def test_who_reads_over_few_and_very_long_lines_says_that_it_goes_on():
    beats = []
    lines = [Read(number, number * 50_000_000, b"{}", too_long=True) for number in range(1, 9)]
    assert list(_telling(lines, lambda: beats.append(1))) == lines
    assert len(beats) == 4
