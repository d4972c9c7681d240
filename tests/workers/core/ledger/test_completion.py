from collections.abc import Callable

from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.job_ends import assume_active, concerned, lock_active
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.features.access.store import quotas
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.features.cache.store import entries
from headrace_workers.features.tuning.store import end_runs


def test_a_completion_concerns_the_features_that_keep_something_of_the_job(
    ledger: Ledger, job: Callable[..., NewJob]
) -> None:
    ledger.of(Quotas).put("a", 1_000, "ever")
    reserved, free, making = job(tenant="a"), job(tenant="b"), job(tenant="b")
    jobs = [new_job.id for new_job in (reserved, free, making)]
    ledger.ingest([reserved, free, making])
    answer = entries.NewEntry(scope="s", key="k", tenant="b", job_id=making.id, lane=1)
    with writing(ledger.engine) as tx:
        entries.lead(tx, [answer])
        found = concerned(lock_active(tx, jobs), jobs)
    assert {hooks.on_completion: job_ids for hooks, job_ids in found.items()} == {
        quotas.settle: [reserved.id],
        entries.withdraw_of: [making.id],
    }


def test_jobs_that_nobody_looked_at_concern_every_feature() -> None:
    found = concerned(assume_active(["a"], ()), ["a"])
    assert {hooks.on_completion for hooks in found} == {quotas.settle, entries.withdraw_of, end_runs}
    assert set(map(tuple, found.values())) == {("a",)}
