"""The beginning of an eval's run, broken off at each of its steps: whoever goes on comes to the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.services.tables import sqlite_tables

from headrace_workers.bridge.evals import EvalRuns
from headrace_workers.bridge.troubles import Troubles
from headrace_workers.clock import SystemClock
from headrace_workers.files.files import Files
from headrace_workers.files.store import Store
from headrace_workers.ledger.evals.evals import NewEval, NewRun
from headrace_workers.ledger.ledger import Ledger

ROWS = 450  # more than are written down at once
CHECK = {"type": "string_check", "name": "x", "input": "{{item.x}}", "reference": "1", "operation": "eq"}


class Killed(BaseException):
    """What happens in the place of what would have come next."""


@pytest.fixture
def ledger(tmp_path: Path):
    """With a run that nobody has begun, of which one row has no text to judge."""
    found = Ledger.at(sqlite_tables(tmp_path / "ledger.db"))
    rows = [json.dumps({"item": {"x": str(n % 2)} if n != 7 else {}}) for n in range(ROWS)]
    file = files_of(found, tmp_path).add(
        ["\n".join(rows).encode()], tenant="a", purpose="evals", name="rows.jsonl", keep=None
    )
    said = {"tenant": "a", "name": "", "data_source_config": "{}", "metadata": "{}"}
    found.evals.create(NewEval(id="eval_1", **said, testing_criteria=json.dumps([CHECK])))
    source = json.dumps({"type": "jsonl", "source": {"type": "file_id", "id": file.id}})
    found.evals.start("eval_1", "a", NewRun(id="evalrun_1", name="", data_source=source, metadata="{}"))
    yield found
    found.close()


def files_of(ledger: Ledger, folder: Path) -> Files:
    """The files of a ledger in a folder."""
    return Files(ledger.files, Store.at(str(folder / "files")))


def duty(ledger: Ledger, files: Files, name: str = "bridge") -> EvalRuns:
    """The duty of a bridge."""
    clock = SystemClock()
    return EvalRuns(
        ledger=ledger, files=files, bridge=name, clock=clock, troubles=Troubles(ledger, name, clock), keep=60.0
    )


def stands(ledger: Ledger) -> Any:
    """The run as it is."""
    return ledger.evals.run("eval_1", "evalrun_1", "a")


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


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    ("part", "name", "after"),
    [("evals", "put_items", 1), ("files", "put", 0), ("batches", "create", 0), ("evals", "begin", 0)],
)
def test_a_beginning_that_was_broken_off_is_begun_again(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, name: str, after: int, done: bool
):
    """Each row is one item, and one batch carries them, wherever it was."""
    files = files_of(ledger, tmp_path)
    with monkeypatch.context() as patch:
        owner = files if part == "files" else getattr(ledger, part)
        patch.setattr(owner, name, breaking(getattr(owner, name), after, done=done))
        with pytest.raises(Killed):
            duty(ledger, files).once(lambda _: None)
    duty(ledger, files).once(lambda _: None)
    run = stands(ledger)
    (batch,) = ledger.batches.batches("a")
    assert (run.state, run.total, run.batch, batch.total) == ("in_progress", ROWS, batch.id, ROWS - 1)
    assert ledger.evals.count(run.number, None) == ROWS - 1
    (wrong,) = ledger.evals.items(run.number, after=None, limit=10)
    assert (wrong.number, wrong.status) == (7, "error")
    assert json.loads(run.tally)["counts"] == {"passed": 0, "failed": 0, "errored": 1}


def test_one_bridge_at_a_time_does_it(ledger: Ledger, tmp_path: Path):
    """The other waits for its lease."""
    first, second = (duty(ledger, files_of(ledger, tmp_path), name) for name in ("one", "two"))
    assert first.once(lambda _: None) == ROWS
    ledger.evals.cancel("eval_1", "evalrun_1", "a")
    second.once(lambda _: None)
    (batch,) = ledger.batches.batches("a")
    assert batch.cancelling_at is None
    first.once(lambda _: None)
    (batch,) = ledger.batches.batches("a")
    assert batch.cancelling_at is not None


def test_a_run_whose_file_is_gone_or_that_was_cancelled_before_it_began_ends(ledger: Ledger, tmp_path: Path):
    """With a reason; nothing was asked."""
    files = files_of(ledger, tmp_path)
    source = json.loads(stands(ledger).data_source)["source"]["id"]
    ledger.evals.start(
        "eval_1", "a", NewRun(id="evalrun_2", name="", data_source=stands(ledger).data_source, metadata="{}")
    )
    ledger.evals.cancel("eval_1", "evalrun_2", "a")
    files.remove(source)
    duty(ledger, files).once(lambda _: None)
    first, second = (ledger.evals.run("eval_1", name, "a") for name in ("evalrun_1", "evalrun_2"))
    assert (first.state, first.reason) == ("failed", f"its file {source} was deleted before it was read")
    assert (second.state, second.reason) == ("canceled", None)
    assert ledger.batches.batches("a") == []


def test_what_is_removed_is_forgotten_bit_by_bit(ledger: Ledger, tmp_path: Path):
    """The items first, then the run."""
    files = files_of(ledger, tmp_path)
    duty(ledger, files).once(lambda _: None)
    run = stands(ledger)
    ledger.evals.finish(run.number, "failed", None, {"error": {"code": "lost", "message": "x"}})
    ledger.evals.remove("eval_1", "a")
    assert stands(ledger) is None
    for _ in range(3):
        duty(ledger, files).once(lambda _: None)
    assert ledger.evals.items(run.number, after=None, limit=1) == []
    assert not ledger.evals.forget()
