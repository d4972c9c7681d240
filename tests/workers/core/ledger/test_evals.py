import json
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.sql.database import alone, writing
from headrace_workers.features.evals.store import (
    EvalBounds,
    Evals,
    Judged,
    NewEval,
    NewItem,
    NewRun,
    ReadBefore,
    StillRuns,
    TooManyEvals,
)
from headrace_workers.features.evals.tables import EVALS

NOTHING = {"error": {"code": "lost", "message": "nothing came of it"}}


@pytest.fixture
def run(ledger):
    """A run of three items, of which one makes no job, carried by a batch."""
    said = {"tenant": "a", "name": "", "data_source_config": "{}", "metadata": "{}", "testing_criteria": "[]"}
    ledger.of(Evals).create(NewEval(id="eval_1", **said))
    made = ledger.of(Evals).start("eval_1", "a", NewRun(id="evalrun_1", name="", data_source="{}", metadata="{}"))
    items = [NewItem(0, "{}"), NewItem(1, json.dumps({"item": {"q": "a\0\ud800"}})), NewItem(2, "{}", "error", "{}")]
    for _ in range(2):  # whoever was killed does so again
        ledger.of(Evals).put_items(made.number, items, 100)
    for batch in ("batch_1", "batch_2"):
        ledger.of(Evals).begin(made.number, batch, 3, {})
    return ledger.of(Evals).run("eval_1", "evalrun_1", "a")


def judged(number):
    return Judged(number, "pass", "{}", "[]")


def test_a_run_begins_once(ledger, run):
    assert (run.state, run.batch, run.total) == ("in_progress", "batch_1", 3)
    assert json.loads(ledger.of(Evals).open_items(run.number, [0, 1, 2])[1]) == {"item": {"q": "a\0\ud800"}}
    assert ledger.of(Evals).open_items(run.number, [2]) == {}


def test_answers_are_counted_once_however_often_they_are_read(ledger, run):
    ledger.of(Evals).put_ends(run, [judged(0)], {"output_read": 10}, {"n": 1})
    with pytest.raises(ReadBefore):
        ledger.of(Evals).put_ends(run, [judged(1)], {"output_read": 20}, {"n": 1})
    (first, _) = ledger.of(Evals).items(run.number, after=None, limit=9).rows
    assert (first.number, first.status) == (0, "pass")
    again = ledger.of(Evals).run("eval_1", "evalrun_1", "a")
    assert (again.output_read, again.errors_read, again.tally) == (10, 0, '{"n": 1}')
    ledger.of(Evals).put_ends(again, [judged(1)], {"errors_read": 5}, {"n": 2})
    with pytest.raises(ReadBefore):
        ledger.of(Evals).put_ends(again, [], {"output_read": 20}, {"n": 3})


def test_a_run_ends_once_and_what_never_ended_says_so(ledger, run):
    ledger.of(Evals).put_ends(run, [judged(0)], {"output_read": 10}, {})
    with pytest.raises(StillRuns):
        ledger.of(Evals).remove_run("eval_1", "evalrun_1", "a")
    with pytest.raises(StillRuns):
        ledger.of(Evals).remove("eval_1", "a")
    assert ledger.of(Evals).finish(run.number, "completed", None, NOTHING).state == "completed"
    assert ledger.of(Evals).finish(run.number, "failed", "x", NOTHING) is None
    with pytest.raises(ReadBefore):
        ledger.of(Evals).put_ends(run, [judged(1)], {"output_read": 20}, {})
    items = ledger.of(Evals).items(run.number, after=None, limit=9).rows
    assert [row.status for row in items] == ["pass", "error", "error"]
    assert json.loads(items[1].sample) == NOTHING
    assert ledger.of(Evals).unfinished() == []
    assert ledger.of(Evals).cancel("eval_1", "evalrun_1", "a").state == "completed"


def test_a_tenant_has_so_many_evals_and_runs_at_a_time_and_no_more(ledger, run):
    said = {"name": "", "data_source_config": "{}", "metadata": "{}", "testing_criteria": "[]"}
    one = EvalBounds(evals=1, runs=1)
    with pytest.raises(TooManyEvals, match=r"the tenant a has 1 evals, and may have 1 \(HEADRACE_MAX_EVALS\): delete"):
        ledger.of(Evals).create(NewEval(id="eval_2", tenant="a", **said), one)
    ledger.of(Evals).create(NewEval(id="eval_3", tenant="b", **said), one)
    second = NewRun(id="evalrun_2", name="", data_source="{}", metadata="{}")
    with pytest.raises(TooManyEvals, match=r"1 runs of evals that have not ended, and may have 1 \(HEADRACE_MAX_EVAL_"):
        ledger.of(Evals).start("eval_1", "a", second, one)
    with pytest.raises(TooManyEvals):
        ledger.of(Evals).check_run("a", one)
    ledger.of(Evals).check_run("b", one)
    ledger.of(Evals).finish(run.number, "completed", None, NOTHING)
    assert ledger.of(Evals).start("eval_1", "a", second, one).state == "queued"
    ledger.of(Evals).check_bytes("a", 0)


def test_two_at_one_moment_do_not_both_have_the_last_place(ledger, run):
    said = {"name": "", "data_source_config": "{}", "metadata": "{}", "testing_criteria": "[]"}
    two = EvalBounds(evals=2, runs=2)

    def make(number):
        ledger.of(Evals).create(NewEval(id=f"eval_{number}", tenant="a", **said), two)

    def start(number):
        return ledger.of(Evals).start(
            "eval_1", "a", NewRun(id=f"evalrun_{number}", name="", data_source="{}", metadata="{}"), two
        )

    for one_more in (make, start):
        with ThreadPoolExecutor(8) as pool:
            ends = [pool.submit(one_more, number) for number in range(2, 10)]
        assert sum(end.exception() is None for end in ends) == 1
        assert all(isinstance(end.exception(), TooManyEvals | None) for end in ends)


def test_who_counts_waits_for_who_writes(ledger):
    said = {"name": "", "data_source_config": "{}", "metadata": "{}", "testing_criteria": "[]"}
    one = EvalBounds(evals=1)
    with ThreadPoolExecutor(1) as pool:
        with writing(ledger.engine) as tx:
            alone(tx, "evals of a")
            waits = pool.submit(ledger.of(Evals).create, NewEval(id="eval_2", tenant="a", **said), one)
            assert not wait([waits], timeout=0.5).done
            tx.execute(EVALS.insert().values(id="eval_1", tenant="a", created_at=0, updated_at=0, **said))
        with pytest.raises(TooManyEvals):
            waits.result()


def test_what_is_kept_is_bounded_too(ledger, run):
    kept = ledger.of(Evals).run("eval_1", "evalrun_1", "a").bytes
    assert kept == 100
    ledger.of(Evals).put_ends(run, [Judged(0, "pass", "s" * 30, "r" * 20)], {"output_read": 10}, {})
    ledger.of(Evals).check_bytes("a", 1_000)
    with pytest.raises(
        TooManyEvals, match=r"keep 1\d\d bytes, and may keep 150 \(HEADRACE_MAX_EVAL_BYTES\): delete runs"
    ):
        ledger.of(Evals).check_bytes("a", 150)
    ledger.of(Evals).check_bytes("b", 1)
    with pytest.raises(TooManyEvals):
        ledger.of(Evals).check_run("a", EvalBounds(bytes=150))
    ledger.of(Evals).finish(run.number, "completed", None, NOTHING)
    ledger.of(Evals).remove_run("eval_1", "evalrun_1", "a")
    ledger.of(Evals).check_bytes("a", 150)


def test_another_tenant_has_none_of_it(ledger, run):
    ledger.of(Evals).finish(run.number, "completed", None, NOTHING)
    assert ledger.of(Evals).eval("eval_1", "b") is None
    assert ledger.of(Evals).run("eval_1", "evalrun_1", "b") is None
    assert (
        ledger.of(Evals).start("eval_1", "b", NewRun(id="evalrun_2", name="", data_source="{}", metadata="{}")) is None
    )
    assert ledger.of(Evals).change("eval_1", "b", {"name": "theirs"}) is None
    ledger.of(Evals).remove_run("eval_1", "evalrun_1", "b")
    ledger.of(Evals).remove("eval_1", "b")
    assert ledger.of(Evals).run("eval_1", "evalrun_1", "a").state == "completed"
    assert ledger.of(Evals).eval("eval_1", "a").name == ""
