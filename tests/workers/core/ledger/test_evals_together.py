"""Two people at the evals of one tenant at a time. On PostgreSQL; SQLite has one writer at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.workers.core.ledger.test_locks import Meanwhile, ledger_url  # noqa: F401 - a fixture

from headrace_workers.features.evals import store
from headrace_workers.features.evals.store import Evals, NewEval, NewRun, StillRuns


def test_an_eval_is_not_removed_under_a_run_that_starts(ledger, monkeypatch):
    said = {"tenant": "a", "name": "", "data_source_config": "{}", "metadata": "{}", "testing_criteria": "[]"}
    ledger.of(Evals).create(NewEval(id="eval_1", **said))
    event, go, size_of = threading.Event(), threading.Event(), store._size

    def paused(said):
        event.set()
        assert go.wait(60)
        return size_of(said)

    monkeypatch.setattr(store, "_size", paused)  # the eval has been read, and the run is not written
    run = NewRun(id="evalrun_1", name="", data_source="{}", metadata="{}")
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(ledger.of(Evals).start, "eval_1", "a", run)
        assert event.wait(60)
        removing = Meanwhile(ledger, lambda: ledger.of(Evals).remove("eval_1", "a"))
        try:
            assert not removing.ended
        finally:
            go.set()
        assert starting.result() is not None
        with pytest.raises(StillRuns):
            removing.result()
    assert ledger.of(Evals).eval("eval_1", "a") is not None
