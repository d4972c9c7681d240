"""How batches come to their ends in the ledger: alone, once, and told to who wants to hear of it."""

import json
from uuid import uuid4

import pytest
from sqlalchemy import select, update
from tests.workers.core.ledger.batch_rows import end, line, rows, stand, two_batches
from tests.workers.core.ledger.rows import job, step, write
from tests.workers.features.webhooks.office import Office
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas.callback import BatchCallback
from headrace_workers.core.tables import JOBS
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.batches.tables import BATCHES
from headrace_workers.features.webhooks.store.deliveries import Range
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.files.store.files import NewFile
from headrace_workers.files.store.stored import StoredFiles


@pytest.fixture
def two(ledger):
    """The batches 1 and 2, of two tenants."""
    return two_batches(ledger)


def test_a_batch_comes_to_its_end_alone(two):
    before, now = rows(two), two.now()
    two.of(Batches).finalize(1)
    at = rows(two)["batch_1"]["finalizing_at"]
    assert now <= at <= two.now()
    assert rows(two) == before | {"batch_1": before["batch_1"] | {"state": "finalizing", "finalizing_at": at}}
    stand(two, finalizing_at=5)
    two.of(Batches).finalize(1)
    assert rows(two)["batch_1"]["finalizing_at"] == 5
    stand(two, state="cancelling", finalizing_at=None)
    two.of(Batches).finalize(1)
    assert rows(two)["batch_1"]["state"] == "cancelling"
    two.of(Batches).give_up(1, "r" * 3_000, reads_on=True)
    two.of(Batches).give_up(1, "again", reads_on=False)
    assert (rows(two)["batch_1"]["position"], rows(two)["batch_1"]["reason"]) == (-1, "r" * 2_000)
    assert rows(two)["batch_2"] == before["batch_2"]
    stand(two, ended_at=1, finalizing_at=None, reason=None)
    two.of(Batches).finalize(1)
    two.of(Batches).give_up(1, "late", reads_on=False)
    assert (rows(two)["batch_1"]["finalizing_at"], rows(two)["batch_1"]["reason"]) == (None, None)


def test_jobs_of_a_batch_are_let_go_of(two):
    ids = [str(uuid4()) for _ in range(4)]
    for name, batch, state in zip(ids, (1, 1, 1, 2), ("active", "active", "done", "active"), strict=True):
        job(two, name, state, batch=batch, line=1, tenant="a" if batch == 1 else "b")
        step(two, name, "ready" if state == "active" else "done")
    assert not two.of(Batches).is_all_ended(1)
    assert two.of(Batches).let_go(1, "a", "why", 1) == 1
    assert two.of(Batches).let_go(2, "a", "not theirs", 9) == 0
    assert two.of(Batches).let_go(1, "a", "why", 9) == 1
    states = {row.id: row.state for row in two.read(select(JOBS.c.id, JOBS.c.state))}
    assert [states[name] for name in ids] == ["cancelled", "cancelled", "done", "active"]
    assert (two.of(Batches).is_all_ended(1), two.of(Batches).is_all_ended(2)) == (True, False)
    told = [json.loads(row.record.value) for row in two.outbox(9)]
    assert [item["reason"] for item in told] == ["why", "why"]


@pytest.mark.parametrize(
    ("how", "state"),
    [
        ({}, "completed"),
        ({"completed": 0, "failed": 3}, "failed"),
        ({"reason": "unreadable"}, "failed"),
        ({"cancelling_at": 5}, "cancelled"),
        ({"expires_at": 5}, "expired"),
        ({"expires_at": 5, "failed": 0, "completed": 3}, "completed"),
    ],
)
def test_a_batch_ends_when_all_its_lines_are_in_its_files(two, how, state):
    office = Office(two)
    mine, _ = office.register("http://127.0.0.1:1/", tenant="a", events=(f"batch.{state}",))
    office.register("http://127.0.0.1:2/", tenant="b", events=(f"batch.{state}",))
    for name in ("out", "other"):
        two.of(StoredFiles).add(NewFile(id=name, tenant="a", purpose="p", name=name))
    line(two, 1, 1, "failed", code="batch_expired")
    end(two, 1, 1, "j1")
    end(two, 2, 1, "j2")
    stand(two, taken=3, completed=2, failed=1, output_file="out", metadata='{"m":"1"}')
    assert two.of(Batches).finish(1, {}) is None  # it is not read to its end
    stand(two, read=True, **how)
    if not how:
        stand(two, taken=4)
        assert two.of(Batches).finish(1, {}) is None  # a line is in no file yet
        stand(two, taken=3)
    before, now = rows(two), two.now()
    ended = two.of(Batches).finish(1, {"out": "digest"})
    assert now <= ended.ended_at <= two.now()
    changed = {"state": state, "ended_at": ended.ended_at, "finalizing_at": ended.ended_at}
    assert rows(two) == before | {"batch_1": before["batch_1"] | changed}
    assert ended._asdict() == rows(two)["batch_1"]
    assert [two.of(StoredFiles).file(name).digest for name in ("out", "other")] == ["digest", None]
    jobs = {row.id: row.batch for row in two.read(select(JOBS.c.id, JOBS.c.batch).where(JOBS.c.subject.is_(None)))}
    assert jobs == {"j1": None, "j2": 2}
    assert two.of(Batches).finish(1, {}) is None
    assert two.of(Batches).finish(9, {}) is None
    (told,) = two.of(Webhooks).deliveries(Range(), 9)
    assert (told.endpoint_id, told.type, told.subject) == (mine, f"batch.{state}", "batch_1")
    _, body = two.of(Webhooks).delivery(told.id)
    assert json.loads(body)["data"] == {
        "id": "batch_1", "tenant": "a", "status": state,
        "request_counts": {"total": 3, "completed": ended.completed, "failed": ended.failed},
        "output_file_id": "out", "error_file_id": None, "metadata": {"m": "1"},
    }  # fmt: skip


def test_a_batch_that_ran_late_and_lost_no_line_to_its_time_is_completed(two):
    line(two, 1, 1, "failed", code="invalid")
    line(two, 2, 1, "failed", code="batch_expired")
    stand(two, read=True, total=3, taken=3, completed=2, failed=1, expires_at=5)
    assert two.of(Batches).finish(1, {}).state == "completed"


@pytest.mark.parametrize(
    ("events", "told"),
    [((), True), (("batch.failed", "batch.completed"), True), (("batch.failed",), False)],
    ids=["all", "this", "another"],
)
def test_the_place_that_a_batch_names_is_told_of_the_ends_that_it_wants(two, events, told):
    office = Office(two)
    mine, _ = office.register("http://127.0.0.1:1/", tenant="a", events=("batch.completed",))
    place = "https://shop.example/done"
    stand(
        two,
        read=True,
        total=1,
        taken=1,
        completed=1,
        callback=BatchCallback(url=place, events=events).model_dump_json(),
    )
    elsewhere = BatchCallback(url="https://other.example/").model_dump_json()
    write(two, update(BATCHES).where(BATCHES.c.id == "batch_2").values(callback=elsewhere))
    two.of(Batches).finish(1, {})
    deliveries = two.of(Webhooks).deliveries(Range(), 9)
    assert {(item.tenant, item.type, item.subject) for item in deliveries} == {("a", "batch.completed", "batch_1")}
    assert {item.url or item.endpoint_id for item in deliveries} == {mine, *([place] if told else [])}
