from sqlalchemy import select

from headrace_schemas import Category, Topic
from headrace_workers.core.ledger.dead_letters import Burial
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.tables import JOBS, STEPS


def test_tenants_take_turns_in_proportion_to_tokens(ledger, job, claim):
    ledger.ingest([job(tenant="greedy") for _ in range(20)])
    ledger.ingest([job(tenant="modest") for _ in range(2)])
    started = ledger.start(claim(limit=4).id, worker="w", lease_ms=1000)
    assert sorted(row.tenant for row in started.steps) == ["greedy", "greedy", "modest", "modest"]


def test_a_tenants_turn_goes_on_from_batch_to_batch(ledger, job):
    for _ in range(3):
        ledger.ingest([job(tenant="often")])
    ledger.ingest([job(tenant="once") for _ in range(3)])
    rows = ledger.read(select(JOBS.c.tenant, STEPS.c.turn).join(JOBS, JOBS.c.id == STEPS.c.job_id))
    turns = {tenant: sorted(row.turn for row in rows if row.tenant == tenant) for tenant in ("often", "once")}
    assert turns == {"often": [10, 20, 30], "once": [10, 20, 30]}


def test_a_tenants_turn_goes_on_when_some_of_its_jobs_are_served(ledger, job, claim):
    """What was served is no reason to begin further back, or further ahead, than behind its own last job."""
    ledger.ingest([job(tenant="often") for _ in range(3)])
    ledger.start(claim(limit=1).id, worker="w", lease_ms=60_000)
    ledger.ingest([job(tenant="often"), job(tenant="new")])
    rows = ledger.read(select(JOBS.c.tenant, STEPS.c.turn).join(JOBS, JOBS.c.id == STEPS.c.job_id))
    assert sorted(row.turn for row in rows if row.tenant == "often") == [10, 20, 30, 40]
    assert [row.turn for row in rows if row.tenant == "new"] == [20]


def test_a_tenant_that_was_idle_gets_no_credit_for_it(ledger, job, claim):
    ledger.ingest([job(tenant="old") for _ in range(10)])
    ledger.start(claim(limit=10).id, worker="w", lease_ms=60_000)
    ledger.ingest([job(tenant="new") for _ in range(4)] + [job(tenant="old") for _ in range(4)])
    turns = [row.turn for row in ledger.read(select(STEPS.c.turn).where(STEPS.c.state == "ready"))]
    assert sorted(turns) == [20, 20, 30, 30, 40, 40, 50, 50]


def test_what_was_accepted_before_is_not_refused_when_it_comes_again(ledger, job):
    """The same job may come too late at its second reading: no letter. Anything else under its id has one.

    So has the same job in a record that is wrong, such as under a key that is not its id: its sender waits elsewhere.
    """
    accepted, stranger = job(), job()
    ledger.ingest([accepted])
    same, wrong = refusal("1", accepted.id, accepted.payload), refusal("5", accepted.id, accepted.payload, sound=False)
    others = [refusal("2", stranger.id, accepted.payload), refusal("3", None), refusal("4", accepted.id)]
    ledger.ingest([], [same, *others, wrong])
    assert {letter.id for letter in ledger.dead(DeadFilter())} == {"2", "3", "4", "5"}
    assert ledger.job(accepted.id).job.state == "active"


def refusal(number, job_id, value=b"{}", *, sound=True):
    return Burial(id=number, job_id=None, refers_to=job_id, tenant=None, category=Category.INVALID, reason="too late",
                  stage="ingest", attempts=0, topic=Topic.GENERATION, value=value, sound=sound)  # fmt: skip
