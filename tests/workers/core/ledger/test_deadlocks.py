"""All writers at once, on PostgreSQL: a writer that keeps the lock order of `completion.py` never deadlocks."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import uuid4

import psycopg
import pytest
from pydantic_core import to_json
from sqlalchemy import select, text, update
from tests.services.eventually import eventually
from tests.services.tables import postgres_tables
from tests.slow import slow_after_first
from tests.workers.core.ledger.budget_deployment import CENT
from tests.workers.core.ledger.test_complete import burial, dies, ends, goes_on, retries
from tests.workers.features.reviews import review_rows

from headrace_workers.core.ledger.accounting import account
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.charges import NextCall, routed
from headrace_workers.core.ledger.claims import QueueRoom, Wanted
from headrace_workers.core.ledger.completion import RunOver, StepResult
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.model_calls import WantedCall
from headrace_workers.core.ledger.outcome import Held
from headrace_workers.core.ledger.positions import Advance, LogPartition, Position
from headrace_workers.core.sql.database import clock, writing
from headrace_workers.core.tables import CLAIMS, JOBS, STEPS
from headrace_workers.features.access.store.quotas import Quotas, WantedQuota
from headrace_workers.features.reviews import hooks as review_queue
from headrace_workers.features.reviews.decision import Conflict, Decision, Person
from headrace_workers.features.reviews.store import Reviews
from headrace_workers.features.reviews.tables import REVIEW_RULES

MOST_ROUNDS = 300  # chance decides what a round does: rounds go on until everything has happened
TENANTS = ("a", "b", "c", "d")
CALL = NextCall("first", CENT, 10)
AGAIN = WantedCall("second", spent=0, most=CALL.most)
LEASE = 60_000
_WAITS = text("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


@pytest.fixture
def ledger_url(postgres):
    name = f"deadlocks_{uuid4().hex[:8]}"
    url = postgres_tables(postgres, name)
    with psycopg.connect(postgres.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE \"{name}\" SET deadlock_timeout = '20ms'")
    return url


class _Load:
    """What all threads share: the last jobs, newest last, and what was taken back."""

    def __init__(self, url, job):
        self.ledger = Ledger.at(url)
        self.job = job
        self.jobs = []  # pairs of id and tenant
        self.reaped = []
        self.lost = []  # claims whose workers are slow, with their jobs
        self.known = []
        self.decided = []
        self.taken = 0  # decisions that came too late

    def missing(self):
        actions = {decided.recorded.action for decided in self.decided}
        happened = {
            **{action: action in actions for action in ("label", "release", "withhold")},
            "crashed": any(reaped.crashed for reaped in self.reaped),
            "poison": any(reaped.poison for reaped in self.reaped),
            "a cost that became known": self.known,
        }
        return [name for name, seen in happened.items() if not seen]

    def new(self, **fields):
        new = self.job(queue="model.first", **fields)
        context = to_json({"context": routed({}, CALL), "stages": []})
        return replace(new, money=CALL.most, steps=(new.steps[0]._replace(context=context),))

    def some(self, rng, count):
        recent = self.jobs[-60:]
        return rng.sample(recent, min(count, len(recent)))

    def wishes(self, rng, count):
        return [Cancellation(job_id, tenant, "") for job_id, tenant in self.some(rng, count)]


def _bridge(load, rng):
    """Take jobs in, some of them a second time, with cancellations of others."""
    jobs = [load.new(tenant=rng.choice(TENANTS), lane=rng.choice((0, 1))) for _ in range(8)]
    again = [load.new(tenant=tenant, job_id=job_id) for job_id, tenant in load.some(rng, 2)]
    load.jobs += [(job.id, job.tenant) for job in jobs]
    rng.shuffle(jobs)
    wishes = [*load.wishes(rng, 4), Cancellation(jobs[0].id, jobs[0].tenant, "")]
    rng.shuffle(wishes)
    log = f"{rng.random()}"  # no two bridges read one partition
    places = {LogPartition("jobs", number, log): Advance(0, Position(1)) for number in rng.sample(range(9), 3)}
    room = QueueRoom({("model.first", 0): 1}, "b", LEASE)
    load.ledger.ingest([*jobs, *again], cancellations=wishes, following=places, room=room)


def _worker(load, rng):
    """Claim groups and complete them: jobs end, die, go on, come again later, or go to another model."""
    lane = rng.choice((0, 1))
    wanted = [Wanted("model.first", lane, 2, 6), Wanted("model.second", lane, 1, 6), Wanted("m", 1, 1, 6)]
    found = load.ledger.claim(wanted, lease_ms=LEASE, sender="b").claims
    load.ledger.renew([item.id for item in found], LEASE)
    runs, jobs = [], set()
    for item in rng.sample(found, len(found)):
        begun = load.ledger.start(item.id, worker=f"w{item.id}", lease_ms=LEASE)
        if begun is not None:
            settled = [_settled(row, begun.stage, rng) for row in begun.steps]
            room = QueueRoom({("m", 1): rng.choice((0, 1))}, "w", LEASE)
            if rng.choice((True, False)) or jobs & {row.job_id for row in begun.steps}:
                load.ledger.complete(item.id, settled, ran_ms=1, quantum_ms=5_000, room=room)
            else:
                jobs |= {row.job_id for row in begun.steps}
                runs.append(RunOver(item.id, settled, ran_ms=1, quantum_ms=5_000))
    if runs:
        load.ledger.complete_together(runs, QueueRoom({("m", 1): 1}, "w", LEASE))


def _settled(row, stage, rng):
    match rng.randrange(6):
        case 5:
            return StepResult(row.job_id, Held("a person must decide"))
        case 0:
            return dies(row.job_id, stage)
        case 1:
            return retries(row.job_id, 1)
        case 2 if stage == "generate":
            going = goes_on(row.job_id)
            return going._replace(following=(going.following[0]._replace(tenant=row.tenant),))
        case 3 if stage == "generate":
            return retries(row.job_id, 0)._replace(queue="model.second", call=AGAIN, refusal=burial(row.job_id, stage))
    return ends(row.job_id)


def _gateway(load, rng):
    """Cancel what others have in hand, and reserve tokens for what is not sent after all."""
    load.ledger.cancel_all(load.wishes(rng, 5))
    wants = [WantedQuota(str(uuid4()), tenant, 5, digest="d") for tenant in rng.sample(TENANTS, 3)]
    load.ledger.of(Quotas).reserve(wants)
    load.ledger.of(Quotas).release([(want.job_id, want.digest) for want in wants])
    most, unit = rng.choice((10**9, 2_000)), rng.choice(("tokens", "money"))
    load.ledger.of(Quotas).put(rng.choice(TENANTS), most, "ever", unit=unit)
    _slow_worker(load, rng)


def _keeper(load, rng):
    """Take back what the dead held, some of it poison, and give back what was handed out; end what is late; forget
    what has ended.
    """
    wanted = [Wanted(queue, 1, 1, rng.choice((1, 3))) for queue in ("model.first", "m")]
    for claim in load.ledger.claim(wanted, lease_ms=LEASE, sender="b").claims:
        load.ledger.start(claim.id, worker=f"w{claim.id}", lease_ms=LEASE)
    with writing(load.ledger.engine) as tx:
        account(tx, clock(tx))
        some = select(CLAIMS.c.id).order_by(CLAIMS.c.claimed_at.desc()).limit(5).with_for_update(skip_locked=True)
        lost = list(tx.execute(some).scalars())
        theirs = tx.execute(select(STEPS.c.claim_id, STEPS.c.job_id).where(STEPS.c.claim_id.in_(lost)))
        load.lost += [(row.claim_id, row.job_id) for row in theirs]
        tx.execute(update(CLAIMS).where(CLAIMS.c.id.in_(lost)).values(renewed_at=0, lease_until=1))
    load.reaped.append(load.ledger.reap(1))
    load.ledger.ingest([load.new(tenant=tenant, deadline=1) for tenant in TENANTS])
    load.reaped.append(load.ledger.reap(1))
    held = [row.id for row in load.ledger.read(select(CLAIMS.c.id).limit(4))]
    load.ledger.release(rng.sample(held, len(held)))
    _slow_worker(load, rng)
    load.ledger.prune(-1_000)


def _reviewer(load, rng):
    """Decide about held steps and ended answers, while others ask for the same, and the queue closes what is gone."""
    reviews = load.ledger.of(Reviews)
    ended = load.ledger.read(select(JOBS.c.id, JOBS.c.tenant).where(JOBS.c.state == "done").limit(50))
    for job_id, tenant in rng.sample(ended, min(2, len(ended))):
        review_rows.item(load.ledger, job_id, tenant=tenant, wanted=2)
    for tenant in TENANTS:
        person = Person(tenant, rng.choice(("ann", "bob", "eve")))
        item = reviews.next(person, LEASE)
        if item is None:
            continue
        try:
            if rng.random() < 0.2:
                reviews.skip(person, item.row.id, item.lease)
                continue
            action = rng.choice(("release", "withhold")) if item.row.held else "label"
            labels = ({"criterion": "good", "value": 1.0},)
            said = Decision(action=action, labels=labels, lease=item.lease, recall=not item.row.held)
            load.decided.append(reviews.decide(person, item.row.id, said))
            if not item.row.held:
                reviews.want(tenant, item.row.id, rng.choice((1, 3)))
                reviews.undo(person, item.row.id)
        except Conflict:
            load.taken += 1
    with writing(load.ledger.engine) as tx:
        review_queue.close_held(tx, "")


def _slow_worker(load, rng):
    """Tell what calls cost which were lost, whatever has become of their jobs."""
    lost = load.lost[-60:]
    for claim_id in {claim_id for claim_id, _ in rng.sample(lost, min(6, len(lost)))}:
        paid = {job_id: 1 for other, job_id in lost if other == claim_id}
        load.known += load.ledger.learn_costs(claim_id, paid)


def test_a_cancellation_that_waited_locks_new_claims_in_order(ledger_url, job):
    """While a cancellation waits for a claim, its job gets another with a lower id: claims that are higher are let go
    first, so that who holds the new one may take them.
    """
    load = _Load(ledger_url, job)
    first, second = job(lane=0), job(lane=0)
    load.ledger.ingest([first, second])
    old, high = sorted(
        claim.id for claim in load.ledger.claim([Wanted("q", 0, 2, 1)], lease_ms=LEASE, sender="b").claims
    )
    holder = load.ledger.read(select(STEPS.c.job_id).where(STEPS.c.claim_id == high))[0].job_id
    wishes = [Cancellation(item.id, item.tenant, "") for item in (first, second)]
    dsn = ledger_url.replace("+psycopg", "")
    with ThreadPoolExecutor() as pool, psycopg.connect(dsn) as waited_for, psycopg.connect(dsn) as other:
        waited_for.execute("SELECT 1 FROM claims WHERE id = %s FOR UPDATE", [high])
        outcomes = pool.submit(load.ledger.cancel_all, wishes)
        eventually(lambda: load.ledger.read(_WAITS))  # in a transaction of its own: within one the list is kept
        columns = 'queue, stage, group_key, lane, size, tokens, "full", sender, claimed_at, renewed_at, lease_until'
        other.execute(f"INSERT INTO claims (id, {columns}) SELECT 1, {columns} FROM claims WHERE id = %s", [high])
        other.execute("UPDATE steps SET claim_id = 1 WHERE job_id = %s", [holder])
        other.commit()
        other.execute("SELECT 1 FROM claims WHERE id = 1 FOR UPDATE")
        waited_for.execute("DELETE FROM claims WHERE id = %s", [high])
        waited_for.commit()
        eventually(lambda: load.ledger.read(_WAITS))
        other.execute("SELECT 1 FROM claims WHERE id = %s FOR UPDATE", [old])
        other.commit()
        assert outcomes.result(60) == ["cancelled", "cancelled"]
    load.ledger.close()


def test_a_cancellation_locks_its_jobs_in_the_order_of_their_ids(ledger_url, job):
    load = _Load(ledger_url, job)
    low, middle, high = sorted(str(uuid4()) for _ in range(3))
    jobs = [job(job_id=name) for name in (high, middle, low)]
    for item in jobs:
        load.ledger.ingest([item])
    wishes = [Cancellation(item.id, item.tenant, "") for item in jobs]
    dsn = ledger_url.replace("+psycopg", "")
    with ThreadPoolExecutor() as pool, psycopg.connect(dsn) as first:
        first.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", [low])
        outcomes = pool.submit(load.ledger.cancel_all, wishes)
        eventually(lambda: load.ledger.read(_WAITS))
        first.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", [middle])
        first.execute("SELECT 1 FROM jobs WHERE id = %s FOR UPDATE", [high])
        first.commit()
        assert outcomes.result(60) == ["cancelled"] * 3
    load.ledger.close()


@pytest.mark.parametrize("rounds", slow_after_first([10, 30]))
def test_no_two_writers_ever_wait_for_each_other(ledger_url, job, rounds):
    """Bridges, workers, gateways and what time brings about, all at the same few tenants and jobs: no deadlock."""
    load = _Load(ledger_url, job)
    for tenant in TENANTS:
        for unit in ("tokens", "money"):
            load.ledger.of(Quotas).put(tenant, 10**9, "ever", unit=unit)
            load.ledger.of(Quotas).put(tenant, 10**9, "ever", unit=unit, key_id="k")
    rules = to_json({"tenants": {tenant: {"training": False} for tenant in TENANTS}}).decode()
    review_rows.write(load.ledger, REVIEW_RULES.insert().values(scope="", digest="d", rules=rules, set_at=1))
    errors = []

    def go_on(part, seed):
        rng = random.Random(seed)
        try:
            for number in range(MOST_ROUNDS):
                if number >= rounds and (errors or not load.missing()):
                    return
                part(load, rng)
        except Exception as error:
            errors.append(f"{part.__name__}: {error}")

    parts = [_bridge, _bridge, _bridge, _worker, _worker, _worker, _gateway, _gateway, _keeper, _keeper]
    parts += [_reviewer, _reviewer]
    threads = [threading.Thread(target=go_on, args=(part, seed)) for seed, part in enumerate(parts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = load.ledger.outbox(1)
    load.ledger.close()  # each connection tells of its deadlocks when it ends
    with psycopg.connect(ledger_url.replace("+psycopg", "")) as connection:
        assert connection.execute(_DEADLOCKS).fetchone() == (0,), errors
    assert errors == []
    assert told
    assert load.missing() == []
