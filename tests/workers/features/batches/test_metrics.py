from tests.workers.features.batches.running import Running, jobs

from headrace_schemas import Category
from headrace_workers.core.sql.database import reading
from headrace_workers.features.batches.metrics import lines


def counts(ledger):
    with reading(ledger.engine) as tx:
        (metric,) = lines(tx)
    return {sample.labels["state"]: sample.value for sample in metric.samples}


def test_lines_of_open_batches_are_counted_by_their_state(ledger, tmp_path):
    running = Running(ledger, tmp_path, most=6)
    none = {"waiting": 0, "running": 0, "completed": 0, "failed": 0}
    assert counts(ledger) == none
    running.submit(jobs(8))
    assert counts(ledger) == none | {"waiting": 8}
    running.turn(3)
    assert counts(ledger) == none | {"waiting": 2, "running": 6}
    running.end(limit=3)
    running.end(lambda _: (Category.PERMANENT, "no"), limit=1)
    running.turn(1)
    assert counts(ledger)["completed"] == 3
    assert counts(ledger)["failed"] == 1
    assert sum(counts(ledger).values()) == 8
    running.run()
    assert counts(ledger) == none
