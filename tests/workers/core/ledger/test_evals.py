import json
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.sql.database import alone, writing
from headrace_workers.features.evals import store
from headrace_workers.features.evals.store import (
    Evals,
    NewEval,
    NewItem,
    NewRun,
    TooManyEvals,
)
from headrace_workers.features.evals.tables import EVALS


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


def test_two_at_one_moment_do_not_both_have_the_last_place(ledger, run, monkeypatch):
    said = {"name": "", "data_source_config": "{}", "metadata": "{}", "testing_criteria": "[]"}
    monkeypatch.setattr(store, "_MOST_EVALS", 2)
    monkeypatch.setattr(store, "_MOST_RUNS", 2)

    def make(number):
        ledger.of(Evals).create(NewEval(id=f"eval_{number}", tenant="a", **said))

    def start(number):
        return ledger.of(Evals).start(
            "eval_1", "a", NewRun(id=f"evalrun_{number}", name="", data_source="{}", metadata="{}")
        )

    for one_more in (make, start):
        with ThreadPoolExecutor(8) as pool:
            ends = [pool.submit(one_more, number) for number in range(2, 10)]
        assert sum(end.exception() is None for end in ends) == 1
        assert all(isinstance(end.exception(), TooManyEvals | None) for end in ends)


def test_who_counts_waits_for_who_writes(ledger, monkeypatch):
    said = {"name": "", "data_source_config": "{}", "metadata": "{}", "testing_criteria": "[]"}
    monkeypatch.setattr(store, "_MOST_EVALS", 1)
    with ThreadPoolExecutor(1) as pool:
        with writing(ledger.engine) as tx:
            alone(tx, "evals of a")
            waits = pool.submit(ledger.of(Evals).create, NewEval(id="eval_2", tenant="a", **said))
            assert not wait([waits], timeout=0.5).done
            tx.execute(EVALS.insert().values(id="eval_1", tenant="a", created_at=0, updated_at=0, **said))
        with pytest.raises(TooManyEvals):
            waits.result()
