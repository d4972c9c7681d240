"""The beginning of an eval's run, broken off at each of its steps: the bridge that goes on comes to the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from tests.services.tables import sqlite_tables
from tests.workers.core.ledger.rows import write

from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.batches.store.batches import DONE
from headrace_workers.features.batches.store.outputs import Anew
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.batches.tables import BATCHES
from headrace_workers.features.evals import store
from headrace_workers.features.evals.duty import EvalRuns
from headrace_workers.features.evals.eval_plan import EvalPlan
from headrace_workers.features.evals.store import Evals, NewEval, NewRun
from headrace_workers.features.evals.tables import RUNS
from headrace_workers.files.object_store import Store
from headrace_workers.files.service import Files
from headrace_workers.files.store.stored import StoredFiles
from headrace_workers.runtime.bridge.duty import IncidentReporter

ROWS = 450  # more than are written down at once
CHECK = {"type": "string_check", "name": "x", "input": "{{item.x}}", "reference": "1", "operation": "eq"}


class Killed(BaseException):
    """What happens in the place of what would have come next."""


@pytest.fixture
def ledger(tmp_path: Path):
    """With a run that nobody has begun, of which one row has no text to judge."""
    found = Ledger.at(sqlite_tables(tmp_path / "ledger.db"))
    with_run(found, tmp_path, [json.dumps({"item": {"x": str(n % 2)} if n != 7 else {}}) for n in range(ROWS)])
    yield found
    found.close()


def with_run(ledger: Ledger, folder: Path, rows: list[str], name: str = "1", tenant: str = "a") -> None:
    file = files_of(ledger, folder).add(
        ["\n".join(rows).encode()], tenant=tenant, purpose="evals", name="rows.jsonl", keep=None
    )
    said = {"tenant": tenant, "name": "", "data_source_config": "{}", "metadata": "{}"}
    ledger.of(Evals).create(NewEval(id=f"eval_{name}", **said, testing_criteria=json.dumps([CHECK])))
    source = json.dumps({"type": "jsonl", "source": {"type": "file_id", "id": file.id}})
    ledger.of(Evals).start(
        f"eval_{name}", tenant, NewRun(id=f"evalrun_{name}", name="", data_source=source, metadata="{}")
    )


def files_of(ledger: Ledger, folder: Path) -> Files:
    return Files(ledger.of(StoredFiles), Store.at(str(folder / "files")))


def duty(ledger: Ledger, files: Files, name: str = "bridge") -> EvalRuns:
    clock = SystemClock()
    return EvalRuns(
        ledger=ledger, files=files, bridge=name, clock=clock, incidents=IncidentReporter(ledger, name, clock),
        keep=60.0,
    )  # fmt: skip


def stands(ledger: Ledger) -> Any:
    return ledger.of(Evals).run("eval_1", "evalrun_1", "a")


def breaking(call: Callable[..., Any], after: int, *, done: bool) -> Callable[..., Any]:
    """A call that kills its process at this turn: before it does anything, or when it has."""
    turns = iter(range(after + 1))

    def broken(*args: Any, **kwargs: Any) -> Any:
        if next(turns, 0) < after:
            return call(*args, **kwargs)
        if done:
            call(*args, **kwargs)
        raise Killed

    return broken


@pytest.mark.integration
@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    ("part", "name", "after"),
    [("evals", "put_items", 1), ("files", "put", 0), ("batches", "create", 0), ("evals", "begin", 0)],
)
def test_a_beginning_that_was_broken_off_is_begun_again(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, name: str, after: int, done: bool
):
    files = files_of(ledger, tmp_path)
    with monkeypatch.context() as patch:
        owner = {"files": files, "evals": ledger.of(Evals), "batches": ledger.of(Batches)}[part]
        patch.setattr(owner, name, breaking(getattr(owner, name), after, done=done))
        with pytest.raises(Killed):
            duty(ledger, files).once(lambda _: None)
    duty(ledger, files).once(lambda _: None)
    run = stands(ledger)
    (batch,) = ledger.of(Batches).batches("a")
    assert (run.state, run.total, run.batch, batch.total) == ("in_progress", ROWS, batch.id, ROWS - 1)
    assert ledger.of(Evals).count(run.number, None) == ROWS - 1
    (wrong,) = ledger.of(Evals).items(run.number, after=None, limit=10).rows
    assert (wrong.number, wrong.status) == (7, "error")
    assert json.loads(run.tally)["counts"] == {"passed": 0, "failed": 0, "errored": 1}


def test_one_bridge_at_a_time_does_it(ledger: Ledger, tmp_path: Path):
    first, second = (duty(ledger, files_of(ledger, tmp_path), name) for name in ("one", "two"))
    assert first.once(lambda _: None) == ROWS
    ledger.of(Evals).cancel("eval_1", "evalrun_1", "a")
    second.once(lambda _: None)
    (batch,) = ledger.of(Batches).batches("a")
    assert batch.cancelling_at is None
    first.once(lambda _: None)
    (batch,) = ledger.of(Batches).batches("a")
    assert batch.cancelling_at is not None


@pytest.mark.integration
def test_a_large_run_holds_up_no_other_while_it_begins(ledger: Ledger, tmp_path: Path):
    large = [json.dumps({"item": {"x": "1"}}) for _ in range(2_500)]
    ledger.of(Evals).cancel("eval_1", "evalrun_1", "a")
    with_run(ledger, tmp_path, large, "2")
    with_run(ledger, tmp_path, large[:3], "3")
    bridge = duty(ledger, files_of(ledger, tmp_path))
    assert bridge.once(lambda _: None) == 1_000 + 3
    second, third = (ledger.of(Evals).run(f"eval_{n}", f"evalrun_{n}", "a") for n in (2, 3))
    assert (second.state, third.state, third.total) == ("queued", "in_progress", 3)
    assert [bridge.once(lambda _: None) for _ in range(3)] == [1_000, 500, 0]
    second = ledger.of(Evals).run("eval_2", "evalrun_2", "a")
    batch = ledger.of(Batches).batch(second.batch, "a")
    assert (second.state, second.total, batch.total) == ("in_progress", 2_500, 2_500)
    numbers = [json.loads(line)["idempotency_key"] for line in lines_of(ledger, tmp_path, batch.input_file)]
    assert numbers == [str(n) for n in range(2_500)]


@pytest.mark.integration
def test_of_one_tenant_two_runs_begin_at_a_time(ledger: Ledger, tmp_path: Path):
    """So that a tenant with many large ones does not hold up the rest; its own others wait."""
    large = [json.dumps({"item": {"x": "1"}}) for _ in range(1_001)]
    ledger.of(Evals).cancel("eval_1", "evalrun_1", "a")
    for name in ("2", "3", "4"):
        with_run(ledger, tmp_path, large, name)
    with_run(ledger, tmp_path, large[:1], "5", tenant="b")
    bridge = duty(ledger, files_of(ledger, tmp_path))
    assert [bridge.once(lambda _: None) for _ in range(4)] == [2 * 1_000 + 1, 1_002, 1, 0]


@pytest.mark.integration
def test_a_beginning_that_is_left_leaves_no_file(ledger: Ledger, tmp_path: Path):
    rows = [json.dumps({"item": {"x": "1" * 1_000}}) for _ in range(3_000)]
    ledger.of(Evals).cancel("eval_1", "evalrun_1", "a")
    with_run(ledger, tmp_path, rows, "2")
    before = stored(tmp_path)
    first, second = (duty(ledger, files_of(ledger, tmp_path), name) for name in ("one", "two"))
    assert first.once(lambda _: None) == 1_000
    assert len(stored(tmp_path)) > len(before)
    ledger.of(Evals).cancel("eval_2", "evalrun_2", "a")
    first.once(lambda _: None)
    assert (ledger.of(Evals).run("eval_2", "evalrun_2", "a").state, stored(tmp_path)) == ("canceled", before)
    with_run(ledger, tmp_path, rows, "3")
    before = stored(tmp_path)
    assert first.once(lambda _: None) == 1_000
    ledger.lay_down("one")
    first._duty.give_up()
    while not ledger.of(Evals).run("eval_3", "evalrun_3", "a").batch:
        second.once(lambda _: None)
    first.once(lambda _: None)
    run = ledger.of(Evals).run("eval_3", "evalrun_3", "a")
    named = {piece.path for piece in ledger.of(StoredFiles).pieces(ledger.of(Batches).batch(run.batch, "a").input_file)}
    assert stored(tmp_path) == before | named
    assert ledger.of(Evals).count(run.number, None) == 3_000


def test_a_run_that_goes_beyond_what_its_tenant_may_keep_fails(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(store, "_MOST_BYTES", 100_000)
    rows = [json.dumps({"item": {"x": "1" * 100}}) for _ in range(1_500)]
    ledger.of(Evals).cancel("eval_1", "evalrun_1", "a")
    with_run(ledger, tmp_path, rows, "2")
    with_run(ledger, tmp_path, rows[:2], "3", tenant="b")
    bridge = duty(ledger, files_of(ledger, tmp_path))
    for _ in range(2):
        bridge.once(lambda _: None)
    failed, other = (ledger.of(Evals).run(f"eval_{n}", f"evalrun_{n}", t) for n, t in (("2", "a"), ("3", "b")))
    assert (failed.state, other.state) == ("failed", "in_progress")
    assert failed.reason.startswith("evals of the tenant a and their runs keep 1")
    assert "bytes, and may keep 100,000: delete runs or evals" in failed.reason


def stored(folder: Path) -> set[str]:
    root = folder / "files"
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def lines_of(ledger: Ledger, folder: Path, file_id: str) -> list[bytes]:
    return b"".join(files_of(ledger, folder).chunks(file_id)).splitlines()


def test_who_begins_a_large_run_goes_on(ledger: Ledger, tmp_path: Path):
    """Each part that is written down says so: a bridge that was silent for two minutes would end itself."""
    signs: list[int] = []
    run = stands(ledger)
    duty(ledger, files_of(ledger, tmp_path)).once(
        lambda _: None, lambda: signs.append(ledger.of(Evals).count(run.number, None) + 1)
    )
    assert signs == [1, 200, 400, ROWS]  # the row that makes no job has a status


@pytest.mark.integration
def test_empty_lines_are_read_a_bounded_part_at_a_time(ledger: Ledger, tmp_path: Path):
    ledger.of(Evals).cancel("eval_1", "evalrun_1", "a")
    with_run(ledger, tmp_path, [*[""] * 600_000, json.dumps({"item": {"x": "1"}})], "2")
    with_run(ledger, tmp_path, [json.dumps({"item": {"x": "1"}})], "3")
    bridge, signs = duty(ledger, files_of(ledger, tmp_path)), []
    assert bridge.once(lambda _: None, lambda: signs.append(1)) == 1
    empty, other = (ledger.of(Evals).run(f"eval_{n}", f"evalrun_{n}", "a") for n in (2, 3))
    assert (empty.state, other.state, bridge.rest) == ("queued", "in_progress", 0.0)
    assert len(signs) == 3 + 2  # runs, and parts
    assert [bridge.once(lambda _: None) for _ in range(2)] == [0, 1]
    assert ledger.of(Evals).run("eval_2", "evalrun_2", "a").total == 1


def test_rows_that_are_large_are_written_down_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As many as 200 of them would take a gigabyte."""
    ledger = Ledger.at(sqlite_tables(tmp_path / "ledger.db"))
    row = json.dumps({"item": {"x": "1" * 1_500_000}})
    with_run(ledger, tmp_path, [row] * 7)
    sizes: list[int] = []
    put = ledger.of(Evals).put_items
    monkeypatch.setattr(
        ledger.of(Evals), "put_items", lambda run, items, size: (sizes.append(len(items)), put(run, items, size))
    )
    bridge = duty(ledger, files_of(ledger, tmp_path))
    assert [bridge.once(lambda _: None) for _ in range(4)] == [3, 3, 1, 0]
    assert sizes == [3, 3, 1]
    ledger.close()


def test_a_run_at_which_we_fail_ends_and_the_others_go_on(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It would stop the bridge each time that it is begun again."""
    second = NewRun(id="evalrun_2", name="", data_source=stands(ledger).data_source, metadata="{}")
    ledger.of(Evals).start("eval_1", "a", second)
    monkeypatch.setattr(EvalPlan, "line", failing_for("evalrun_1", EvalPlan.line))
    assert duty(ledger, files_of(ledger, tmp_path)).once(lambda _: None) == ROWS
    first, other = (ledger.of(Evals).run("eval_1", name, "a") for name in ("evalrun_1", "evalrun_2"))
    assert (first.state, first.reason) == ("failed", "headrace failed at it: ZeroDivisionError")
    assert other.state == "in_progress"


def failing_for(run: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def failing(plan: EvalPlan, row: Any, number: int, of: str, tenant: str) -> Any:
        return 1 / 0 if of == run else call(plan, row, number, of, tenant)

    return failing


def test_a_run_whose_file_is_gone_or_that_was_cancelled_before_it_began_ends(ledger: Ledger, tmp_path: Path):
    files = files_of(ledger, tmp_path)
    source = json.loads(stands(ledger).data_source)["source"]["id"]
    ledger.of(Evals).start(
        "eval_1", "a", NewRun(id="evalrun_2", name="", data_source=stands(ledger).data_source, metadata="{}")
    )
    ledger.of(Evals).cancel("eval_1", "evalrun_2", "a")
    files.remove(source)
    duty(ledger, files).once(lambda _: None)
    first, second = (ledger.of(Evals).run("eval_1", name, "a") for name in ("evalrun_1", "evalrun_2"))
    assert (first.state, first.reason) == ("failed", f"its file {source} was deleted before it was read")
    assert (second.state, second.reason) == ("canceled", None)
    assert ledger.of(Batches).batches("a") == []


def test_a_run_whose_answers_are_gone_from_the_store_waits_until_it_is_cancelled(ledger: Ledger, tmp_path: Path):
    files = files_of(ledger, tmp_path)
    evals = duty(ledger, files)
    while stands(ledger).batch is None:
        evals.once(lambda _: None)
    answers = files.add([b'{"custom_id":"0"}\n'], tenant="a", purpose="batch_output", name="out", keep=None)
    (piece,) = ledger.of(StoredFiles).pieces(answers.id)
    (tmp_path / "files" / piece.path).unlink()
    write(ledger, update(BATCHES).values(ended_at=1, completed=1, output_file=answers.id))
    evals.once(lambda _: None)
    assert stands(ledger).state == "in_progress"
    assert piece.path in str(evals.waits)
    ledger.of(Evals).cancel("eval_1", "evalrun_1", "a")
    evals.once(lambda _: None)
    assert (stands(ledger).state, evals.waits) == ("canceled", None)


def test_a_run_whose_answers_are_gone_fails_when_its_batchs_time_is_over(ledger: Ledger, tmp_path: Path):
    files = files_of(ledger, tmp_path)
    evals = duty(ledger, files)
    while stands(ledger).batch is None:
        evals.once(lambda _: None)
    answers = files.add([b'{"custom_id":"0"}\n'], tenant="a", purpose="batch_output", name="out", keep=None)
    files.drop(ledger.of(StoredFiles).pieces(answers.id))
    write(ledger, update(BATCHES).values(ended_at=1, completed=1, output_file=answers.id, expires_at=1))
    evals.once(lambda _: None)
    assert stands(ledger).state == "failed"
    assert "removed from the file store" in stands(ledger).reason


def test_who_follows_a_file_that_was_written_anew_begins_again(ledger: Ledger, tmp_path: Path):
    files = files_of(ledger, tmp_path)
    evals = duty(ledger, files)
    while stands(ledger).batch is None:
        evals.once(lambda _: None)
    answers = files.add([b'{"custom_id":"0"}\n'], tenant="a", purpose="batch_output", name="out", keep=None)
    write(ledger, update(BATCHES).values(output_file=answers.id))
    write(ledger, update(RUNS).values(output_read=18, errors_read=7))
    pieces = ledger.of(StoredFiles).pieces(answers.id)
    number = ledger.of(Batches).batch(stands(ledger).batch).number
    ledger.of(Batches).rewritten(number, Anew(answers.id, DONE, pieces, pieces, [], ""))
    assert (stands(ledger).output_read, stands(ledger).errors_read) == (0, 7)
