"""Rows of evals, runs and items: what each holds, in which order they come, and whose are touched."""

import json

import pytest
from sqlalchemy import select, update
from tests.workers.features.webhooks.office import Office
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.sql import paging
from headrace_workers.core.sql.database import writing
from headrace_workers.features.evals import store
from headrace_workers.features.evals.store import (
    Evals,
    Judged,
    NewEval,
    NewItem,
    NewRun,
    StillRuns,
    TooManyEvals,
)
from headrace_workers.features.evals.tables import EVALS, ITEMS, RUNS
from headrace_workers.features.webhooks.store.deliveries import Range
from headrace_workers.features.webhooks.store.webhooks import Webhooks

LOST = {"error": "lost"}


def create(ledger, name, tenant="a"):
    new = NewEval(
        id=name, tenant=tenant, name=f"name of {name}", data_source_config='{"d":1}', testing_criteria='["t"]',
        metadata='{"m":"1"}',
    )  # fmt: skip
    return ledger.of(Evals).create(new)


def start(ledger, name, of, tenant="a"):
    new = NewRun(id=name, name=f"name of {name}", data_source='{"s":2}', metadata='{"k":"2"}')
    return ledger.of(Evals).start(of, tenant, new)


@pytest.fixture
def runs(ledger):
    """Two tenants' runs, each of two items, that have begun."""
    create(ledger, "eval_1")
    create(ledger, "eval_2", "b")
    made = [start(ledger, "run_1", "eval_1"), start(ledger, "run_2", "eval_2", "b")]
    for row in made:
        ledger.of(Evals).put_items(row.number, [NewItem(0, f'"{row.id}/0"'), NewItem(1, f'"{row.id}/1"')], 50)
        ledger.of(Evals).begin(row.number, f"batch of {row.id}", 2, {"n": 0})
    return [ledger.of(Evals).run("eval_1", "run_1", "a"), ledger.of(Evals).run("eval_2", "run_2", "b")]


def write(ledger, statement):
    with writing(ledger.engine) as tx:
        tx.execute(statement)


def names(found):
    return "".join(row.id[-1] for row in found)


# -- evals


def test_an_eval_is_kept_as_it_was_written_down(ledger):
    before = ledger.now()
    row = create(ledger, "eval_1")
    create(ledger, "eval_2")
    assert before <= row.created_at <= ledger.now()
    assert row._asdict() == {
        "number": 1, "id": "eval_1", "tenant": "a", "name": "name of eval_1", "data_source_config": '{"d":1}',
        "testing_criteria": '["t"]', "metadata": '{"m":"1"}', "created_at": row.created_at,
        "updated_at": row.created_at, "bytes": len('eval_1aname of eval_1{"d":1}["t"]{"m":"1"}'),
    }  # fmt: skip
    assert ledger.of(Evals).eval("eval_1", "a") == row


def test_evals_come_by_age_or_by_their_last_change_in_pages(ledger):
    for name in "123":
        create(ledger, f"eval_{name}")
    create(ledger, "eval_9", "b")
    for name, at in (("1", 30), ("2", 10), ("3", 30)):
        write(ledger, update(EVALS).where(EVALS.c.id == f"eval_{name}").values(updated_at=at))

    def page(after=None, limit=9, *, newest=False, by_change=False):
        last = None if after is None else f"eval_{after}"
        return names(ledger.of(Evals).evals("a", after=last, limit=limit, newest=newest, by_change=by_change).rows)

    assert [page(), page(newest=True)] == ["123", "321"]
    assert [page(by_change=True), page(newest=True, by_change=True)] == ["213", "312"]
    assert [page("1", 1), page("3", 1, newest=True), page("3"), page("1", newest=True)] == ["2", "2", "", ""]
    assert [page("2", 1, by_change=True), page("3", 1, newest=True, by_change=True)] == ["1", "1"]
    assert [page("3", by_change=True), page(limit=2, by_change=True), page(limit=2)] == ["", "21", "12"]
    assert [page("9"), page("9", by_change=True)] == ["123", "213"]


def test_an_eval_is_changed_alone(ledger):
    """What was not said stays, but for the time of its change."""
    before = create(ledger, "eval_1")
    other = create(ledger, "eval_2")
    write(ledger, update(EVALS).values(updated_at=1))
    changed = ledger.of(Evals).change("eval_1", "a", {"name": "new"})
    assert changed.updated_at >= before.created_at
    assert changed._asdict() == before._asdict() | {"name": "new", "updated_at": changed.updated_at}
    assert ledger.of(Evals).eval("eval_2", "a")._asdict() == other._asdict() | {"updated_at": 1}
    assert ledger.of(Evals).change("eval_9", "a", {"name": "new"}) is None


def test_an_eval_is_removed_with_its_runs_alone(ledger, runs):
    with pytest.raises(StillRuns) as told:
        ledger.of(Evals).remove("eval_1", "a")
    assert str(told.value) == "run_1 has not ended: cancel it first, or wait for it"
    ledger.of(Evals).finish(runs[0].number, "completed", None, LOST)
    ledger.of(Evals).remove("eval_1", "a")
    assert ledger.of(Evals).eval("eval_1", "a") is None
    assert ledger.of(Evals).run("eval_1", "run_1", "a") is None
    assert ledger.of(Evals).eval("eval_2", "b").name == "name of eval_2"
    assert ledger.of(Evals).run("eval_2", "run_2", "b") == runs[1]
    assert start(ledger, "run_3", "eval_1") is None


# -- runs


def test_a_run_is_kept_as_it_was_started(ledger):
    create(ledger, "eval_1")
    create(ledger, "eval_2")
    before = ledger.now()
    row = start(ledger, "run_1", "eval_2")
    assert before <= row.created_at <= ledger.now()
    assert row._asdict() == {
        "number": 1, "id": "run_1", "eval": 2, "eval_id": "eval_2", "tenant": "a", "name": "name of run_1",
        "testing_criteria": '["t"]', "data_source": '{"s":2}', "metadata": '{"k":"2"}', "state": "queued",
        "reason": None, "batch": None, "output_read": 0, "errors_read": 0, "total": 0, "tally": "{}",
        "created_at": row.created_at, "ended_at": None, "removed_at": None, "crashes": 0,
        "bytes": len('run_1name of run_1{"s":2}{"k":"2"}eval_2a["t"]queued'),
    }  # fmt: skip
    assert ledger.of(Evals).run("eval_2", "run_1", "a") == row
    assert ledger.of(Evals).run("eval_1", "run_1", "a") is None
    assert ledger.of(Evals).unfinished() == [row]


def test_runs_of_an_eval_come_by_age_in_pages(ledger):
    create(ledger, "eval_1")
    create(ledger, "eval_2")
    made = {name: start(ledger, f"run_{name}", "eval_1") for name in "1234"}
    start(ledger, "run_9", "eval_2")
    for name in "14":
        ledger.of(Evals).finish(made[name].number, "completed", None, LOST)
    ledger.of(Evals).remove_run("eval_1", "run_4", "a")

    def page(after=None, limit=9, *, newest=False, state=None, tenant="a"):
        last = None if after is None else f"run_{after}"
        return names(ledger.of(Evals).runs("eval_1", tenant, after=last, limit=limit, newest=newest, state=state).rows)

    assert [page(), page(newest=True), page(tenant="b")] == ["123", "321", ""]
    assert [page(state="queued"), page(state="completed")] == ["23", "1"]
    assert [page("1"), page("3", newest=True), page("3"), page(limit=2), page("1", 1)] == ["23", "21", "", "12", "2"]
    assert [page("9"), page("4")] == ["123", "123"]
    assert names(ledger.of(Evals).unfinished()) == "239"


def test_a_run_begins_with_its_items_and_another_stays_queued(ledger, runs):
    third = start(ledger, "run_3", "eval_1")
    assert [(row.state, row.batch, row.total, row.tally, row.bytes) for row in runs] == [
        ("in_progress", "batch of run_1", 2, '{"n": 0}', 50), ("in_progress", "batch of run_2", 2, '{"n": 0}', 50),
    ]  # fmt: skip
    assert (third.state, third.batch) == ("queued", None)
    assert ledger.of(Evals).open_items(runs[0].number, [0, 1, 2]) == {0: '"run_1/0"', 1: '"run_1/1"'}
    assert ledger.of(Evals).open_items(runs[0].number, [1]) == {1: '"run_1/1"'}
    ledger.of(Evals).cancel("eval_1", "run_3", "a")
    ledger.of(Evals).begin(third.number, None, 0, {})
    assert ledger.of(Evals).run("eval_1", "run_3", "a").state == "canceling"
    ledger.of(Evals).finish(third.number, "canceled", None, LOST)
    ledger.of(Evals).begin(third.number, "late", 1, {})
    assert ledger.of(Evals).run("eval_1", "run_3", "a").batch is None
    ledger.of(Evals).put_items(runs[0].number, [], 51)
    assert [row.bytes for row in ledger.of(Evals).unfinished()] == [51, 50]


def test_items_stand_as_they_were_put_and_come_to_their_ends(ledger, runs):
    one, other = runs
    ledger.of(Evals).put_items(one.number, [NewItem(2, "{}", "error", '"why"')], 60)
    ledger.of(Evals).put_ends(one, [Judged(1, "pass", '"said"', "[1]")], {"output_read": 7, "errors_read": 8}, {"n": 1})
    assert ledger.of(Evals).item(one.number, 0) is None
    assert ledger.of(Evals).item(one.number, 9) is None
    found = ledger.of(Evals).item(one.number, 1)
    assert one.created_at <= found.created_at <= ledger.now()
    assert found._asdict() == {
        "run": one.number, "number": 1, "item": '"run_1/1"', "status": "pass", "sample": '"said"', "results": "[1]",
        "created_at": found.created_at,
    }  # fmt: skip
    given = ledger.of(Evals).item(one.number, 2)
    assert (given.status, given.sample, given.results) == ("error", '"why"', None)
    now = ledger.of(Evals).run("eval_1", "run_1", "a")
    assert (now.output_read, now.errors_read, now.tally, now.bytes) == (7, 8, '{"n": 1}', 69)
    assert ledger.of(Evals).run("eval_2", "run_2", "b") == other
    assert ledger.of(Evals).item(other.number, 1) is None
    assert ledger.of(Evals).open_items(one.number, [0, 1, 2]) == {0: '"run_1/0"'}
    counts = {status: ledger.of(Evals).count(one.number, status) for status in ("pass", "fail", "error", None)}
    assert counts == {"pass": 1, "fail": 0, "error": 1, None: 1}
    assert ledger.of(Evals).count(other.number, None) == 2


def test_items_that_ended_come_in_their_order_in_pages(ledger, runs):
    one, other = runs
    more = [NewItem(number, "{}", "fail" if number % 2 else "pass", "{}") for number in (5, 3, 4, 2)]
    ledger.of(Evals).put_items(one.number, more, 1)
    ledger.of(Evals).put_items(other.number, [NewItem(7, "{}", "fail", "{}")], 1)

    def page(after=None, limit=9, **how):
        return [row.number for row in ledger.of(Evals).items(one.number, after=after, limit=limit, **how).rows]

    assert [page(), page(newest=True)] == [[2, 3, 4, 5], [5, 4, 3, 2]]
    assert [page(3), page(4, newest=True), page(limit=2)] == [[4, 5], [3, 2], [2, 3]]
    assert [page(status="fail"), page(3, status="fail"), page(status="error")] == [[3, 5], [5], []]


def test_a_run_is_cancelled_or_removed_alone(ledger, runs):
    assert ledger.of(Evals).cancel("eval_1", "run_2", "a") is None
    assert ledger.of(Evals).cancel("eval_1", "run_1", "b") is None
    assert [row.state for row in ledger.of(Evals).unfinished()] == ["in_progress", "in_progress"]
    assert ledger.of(Evals).cancel("eval_1", "run_1", "a").state == "canceling"
    assert [row.state for row in ledger.of(Evals).unfinished()] == ["canceling", "in_progress"]
    with pytest.raises(StillRuns) as told:
        ledger.of(Evals).remove_run("eval_1", "run_1", "a")
    assert str(told.value) == "run_1 has not ended: cancel it first, or wait for it"
    for row in runs:
        ledger.of(Evals).finish(row.number, "canceled", None, LOST)
    ledger.of(Evals).remove_run("eval_1", "run_1", "a")
    assert ledger.of(Evals).run("eval_1", "run_1", "a") is None
    assert ledger.of(Evals).run("eval_2", "run_2", "b").state == "canceled"
    (removed,) = ledger.read(select(RUNS.c.removed_at).where(RUNS.c.id == "run_1"))
    assert runs[0].created_at <= removed[0] <= ledger.now()


@pytest.mark.parametrize(
    ("state", "told"),
    [("completed", "eval.run.succeeded"), ("failed", "eval.run.failed"), ("canceled", "eval.run.canceled")],
)
def test_the_end_of_a_run_is_told(ledger, runs, state, told):
    office = Office(ledger)
    mine, _ = office.register("http://127.0.0.1:1/", tenant="a", events=(told,))
    office.register("http://127.0.0.1:2/", tenant="b", events=(told,))
    one, other = runs
    ended = ledger.of(Evals).finish(one.number, state, "why", LOST)
    assert one.created_at <= ended.ended_at <= ledger.now()
    assert ended._asdict() == one._asdict() | {"state": state, "reason": "why", "ended_at": ended.ended_at}
    assert ledger.of(Evals).run("eval_1", "run_1", "a") == ended
    lost = [
        (row.status, json.loads(row.sample), row.results) for row in ledger.of(Evals).items(1, after=None, limit=9).rows
    ]
    assert lost == [("error", LOST, "[]")] * 2
    assert ledger.of(Evals).run("eval_2", "run_2", "b") == other
    assert ledger.of(Evals).count(other.number, None) == 2
    (found,) = ledger.of(Webhooks).deliveries(Range(), 9)
    assert (found.endpoint_id, found.tenant, found.type, found.subject) == (mine, "a", told, "run_1")
    _, body = ledger.of(Webhooks).delivery(found.id)
    assert json.loads(body)["data"] == {
        "id": "run_1", "tenant": "a", "eval_id": "eval_1", "status": state, "metadata": {"k": "2"},
    }  # fmt: skip


def test_what_was_removed_is_forgotten_bit_by_bit(ledger, runs):
    assert not ledger.of(Evals).forget()
    one, _ = runs
    third = start(ledger, "run_3", "eval_1")
    ledger.of(Evals).put_items(third.number, [NewItem(n, "{}", "pass", "{}") for n in range(2_500)], 1)
    for number, name, at in ((third.number, "run_3", 1), (one.number, "run_1", 2)):
        ledger.of(Evals).finish(number, "completed", None, LOST)
        ledger.of(Evals).remove_run("eval_1", name, "a")
        write(ledger, update(RUNS).where(RUNS.c.number == number).values(removed_at=at))

    def left():
        kept = [row.id for row in ledger.read(select(RUNS.c.id).order_by(RUNS.c.id))]
        return kept, len(ledger.read(select(ITEMS.c.number).where(ITEMS.c.run == third.number)))

    seen = []
    while ledger.of(Evals).forget():
        seen.append(left())
    assert seen[:3] == [
        (["run_1", "run_2", "run_3"], 500), (["run_1", "run_2", "run_3"], 0), (["run_1", "run_2"], 0),
    ]  # fmt: skip
    assert (len(seen), seen[-1]) == (5, (["run_2"], 0))
    assert len(ledger.read(select(ITEMS.c.number))) == 2


# -- bounds


def test_bounds_count_what_is_the_tenants_own(ledger, runs, monkeypatch):
    monkeypatch.setattr(store, "_MOST_EVALS", 2)
    monkeypatch.setattr(store, "_MOST_RUNS", 2)
    create(ledger, "eval_3")
    with pytest.raises(TooManyEvals) as told:
        create(ledger, "eval_4")
    assert str(told.value) == ("the tenant a has 2 evals, and may have 2: delete some")
    start(ledger, "run_3", "eval_1")
    with pytest.raises(TooManyEvals) as told:
        start(ledger, "run_4", "eval_1")
    assert str(told.value) == (
        "the tenant a has 2 runs of evals that have not ended, and may have 2 at a time: "
        "wait for one to end, or cancel one"
    )
    kept = ledger.read(select(EVALS.c.bytes).where(EVALS.c.tenant == "a").union_all(
        select(RUNS.c.bytes).where(RUNS.c.tenant == "a")
    ))  # fmt: skip
    size = sum(row.bytes for row in kept)
    monkeypatch.setattr(store, "_MOST_EVALS", 3)
    monkeypatch.setattr(store, "_MOST_RUNS", 3)
    monkeypatch.setattr(store, "_MOST_BYTES", size + 1)
    ledger.of(Evals).check_bytes("a")
    monkeypatch.setattr(store, "_MOST_BYTES", size)
    for refused in (
        lambda: ledger.of(Evals).check_bytes("a"),
        lambda: create(ledger, "eval_4"),
        lambda: start(ledger, "run_4", "eval_1"),
    ):
        with pytest.raises(TooManyEvals) as told:
            refused()
        assert str(told.value) == (
            f"evals of the tenant a and their runs keep {size:,} bytes, and may keep {size:,}: "
            "delete runs or evals that are not needed any more"
        )
    ledger.of(Evals).check_bytes("nobody")


@pytest.mark.parametrize("newest", [False, True])
def test_rows_that_are_large_come_in_parts_of_bounded_bytes(ledger, runs, newest, monkeypatch):
    monkeypatch.setattr(paging, "PART_BYTES", 1_000)
    number = runs[1].number
    sizes = [10, 600, 300, 80, 3_000, 5, 990, 400, 400, 400]
    items = [NewItem(n + 2, "é" * (size // 2), "pass", "") for n, size in enumerate(sizes)]
    ledger.of(Evals).put_items(number, items, 1)
    found, after, more = [], None, True
    while more:
        rows, more = ledger.of(Evals).items(number, after=after, limit=4, newest=newest)
        after = rows[-1].number
        found.append([row.number - 2 for row in rows])
    assert found == (
        [[0, 1, 2, 3], [4], [5, 6], [7, 8], [9]] if not newest else [[9, 8], [7], [6, 5], [4], [3, 2, 1, 0]]
    )


def test_evals_and_runs_that_are_large_come_in_parts(ledger, monkeypatch):
    for name in "123":
        create(ledger, f"eval_{name}")
        start(ledger, f"run_{name}", "eval_1")
    monkeypatch.setattr(paging, "PART_BYTES", 1)
    for by_change in (False, True):
        found = ledger.of(Evals).evals("a", after=None, limit=9, newest=False, by_change=by_change)
        assert (names(found.rows), found.more) == ("1", True)
        found = ledger.of(Evals).evals("a", after="eval_2", limit=9, newest=False, by_change=by_change)
        assert (names(found.rows), found.more) == ("3", False)
    found = ledger.of(Evals).runs("eval_1", "a", after=None, limit=9, newest=True, state=None)
    assert (names(found.rows), found.more) == ("3", True)
