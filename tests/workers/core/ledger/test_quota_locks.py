"""The quotas of all tenants that a transaction changes are locked at once, on PostgreSQL."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from tests.services.eventually import eventually
from tests.services.tables import postgres_tables
from tests.workers.core.ledger.budget_deployment import CENT, Deployment, Given, kill
from tests.workers.ledger_jobs import claim_one

from headrace_schemas import Answer, Category, GenerationJob, Output, Usage
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Dead, Done, Outcome, Retry
from headrace_workers.core.ledger.recovery import Reaped
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.sql.database import reading, writing
from headrace_workers.features.access.store import quota_rows
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.features.cache.auditing import Auditing
from headrace_workers.features.cache.store.entries import Served

pytestmark = pytest.mark.integration
_WAITS = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
ANSWER = Answer(
    text="Ann.", finish_reason="stop", model="echo", quantization="none",
    usage=Usage(prompt_tokens=0, completion_tokens=0),
)  # fmt: skip


@pytest.fixture
def there(postgres) -> Iterator[Deployment]:
    """A deployment whose tenants `a` and `z` have budgets, and in whose ledger a deadlock is found soon."""
    name = f"quota_locks_{uuid4().hex[:8]}"
    url = postgres_tables(postgres, name)
    with psycopg.connect(postgres.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE \"{name}\" SET deadlock_timeout = '20ms'")
    ledger = Ledger.at(url)
    for tenant in ("a", "z"):
        ledger.of(Quotas).put(tenant, 10**9, "ever", unit="money")
    yield Deployment(ledger, Given(echo=CENT, other=CENT))
    ledger.close()


def audited(there: Deployment) -> Started:
    """A group whose completion audits an answer of `z`, and routes a job of `a` to its model."""
    there.ledger.ingest([there.new(tenant, cache="semantic") for tenant in ("z", "a")])
    return begun(there, "recall")


def audits(there: Deployment, task: Task) -> Outcome:
    if task.job.tenant == "a":
        return Done()
    served = Served(
        job_id=task.job_id, entry_id=7, tenant="z", scope="ab" * 32, tier="semantic", similarity=0.95,
        first_job=task.job_id, saved_tokens=1, saved_ms=1.0,
    )  # fmt: skip
    output = Output(job_id=task.job_id, tenant="z", answer=ANSWER)
    assert isinstance(task.job, GenerationJob)
    rows = Auditing(there.pipeline, 1.0).draw(served, task.job.question, output, task.job)
    return Done(output, rows=rows)


def rerouted(there: Deployment) -> Started:
    """A group whose completion routes a job of `z` to its next model, and ends one of `a`."""
    there.ledger.ingest([there.new(tenant, model=("echo", "other")) for tenant in ("z", "a")])
    return begun(there, "model.echo")


def reroutes(there: Deployment, task: Task) -> Outcome:
    if task.job.tenant == "z":
        return Retry("it is away", category=Category.REROUTABLE)
    return Dead(Category.PERMANENT, "no")


def begun(there: Deployment, queue: str) -> Started:
    claim = claim_one(there.ledger, queue)
    started = None if claim is None else there.start(claim)
    assert started is not None
    assert len(started.steps) == 2
    return started


def waits(there: Deployment) -> bool:
    """Whether a transaction waits for a lock. Within one transaction the answer would not change."""
    with reading(there.ledger.engine) as tx:
        return bool(tx.execute(_WAITS).scalar_one())


def beside_both(there: Deployment, call: Callable[[], object]) -> object:
    """Make this call while another transaction locks the quotas of `a`, and, once the call waits for those, of `z`;
    return what the call returns.
    """
    with ThreadPoolExecutor() as pool:
        with writing(there.ledger.engine) as other:
            quota_rows.locked(other, {"a"})
            future = pool.submit(call)
            eventually(lambda: waits(there))
            quota_rows.locked(other, {"z"})
        return future.result()


@pytest.mark.parametrize(("group", "outcome"), [(audited, audits), (rerouted, reroutes)])
def test_a_completion_locks_the_quotas_of_all_its_tenants_at_once(there: Deployment, group, outcome):
    started = group(there)
    assert beside_both(there, lambda: there.complete(started, lambda _, task: outcome(there, task)))


def test_a_reap_locks_the_quotas_of_all_its_tenants_at_once(there: Deployment):
    there.ledger.ingest([there.new("a")])
    there.run("model.echo")
    there.ledger.ingest([there.new("z"), there.new("z")])
    for queue in ("moderate", "model.echo"):  # `a` is poison, and its queue is no model's; the calls of `z` are lost
        claim = claim_one(there.ledger, queue)
        assert claim is not None
        kill(there, claim)
    assert beside_both(there, lambda: there.ledger.reap(1)) == Reaped(crashed=2, poison=1)
