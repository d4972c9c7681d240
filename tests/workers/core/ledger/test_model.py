"""The ledger against a model of it: workers that die or come too late, people who cancel and replay, and backups.

Hypothesis chooses what happens. The model knows only what docs/explanation/guarantees.md promises: which jobs were
accepted, how each ended, and which events tell of it, in order.
"""

from copy import deepcopy
from dataclasses import dataclass, field
from uuid import NAMESPACE_OID, uuid4, uuid5

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import select, update
from tests.services.backup import dump, restore
from tests.services.tables import give_back, postgres_tables, sqlite_tables

from headrace_schemas import Category, Topic
from headrace_workers.core.identity import end_id, refusal_id
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.dead_letters import Record, job_burial
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import Outgoing
from headrace_workers.core.ledger.outcome import Dead, Done, Ended, Retry
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, DEAD_LETTERS, JOBS, LIVE, NEVER, OUTBOX, STEPS
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.features.access.tables import QUOTAS, RESERVATIONS

LEASE, TOKENS, QUOTA = 600_000, 30, 100  # the quota is that of tenant b, whose fourth job at a time is refused
TABLES = (JOBS, STEPS, CLAIMS, OUTBOX, DEAD_LETTERS, QUOTAS, RESERVATIONS)
TYPES = {"done": "headrace.result.v1", "dead": "headrace.dead.v1", "cancelled": "headrace.job.cancelled.v1"}
QUEUES = {"generate": "q", "moderate": "m"}
WANTED = [Wanted(queue, 1, 1, 2) for queue in QUEUES.values()]
OUTCOMES = st.permutations(["dies", "is tried again", "goes on", "ends"])


def step(job_id, stage, event=None):
    return NewStep(job_id, stage, QUEUES[stage], "g", 1, 4, NEVER, 0, TOKENS, "headrace.job.generation.v1", event)


def new_job(number):
    job_id, payload = str(uuid5(NAMESPACE_OID, f"{number}")), b'{"model":"m","prompt":"p"}'
    record = Record(Topic.GENERATION, 0, number, (), payload)
    return NewJob(job_id, "ab"[number % 2], "generation", payload, record, (step(job_id, "generate"),))


SENT = [new_job(number) for number in range(12)]
ONE_JOB = st.integers(0, len(SENT) - 1)
REFUSALS = {refusal_id(Topic.GENERATION, 0, number) for number in range(len(SENT))}
OF_B = {job.id for job in SENT if job.tenant == "b"}


def settled(row, stage, outcome):
    """The result of a step, as `settle` makes it."""
    job_id = row.job_id
    output = Outgoing(Topic.OUTPUTS, job_id, {"ce_type": "x", "ce_id": f"{job_id} {stage} {row.replays}"}, b"{}")
    if outcome == "goes on":
        return StepResult(job_id, Done(), (output,), (step(job_id, "moderate", b"{}"),))
    if outcome == "is tried again":
        return StepResult(job_id, Retry("later"), delay_ms=0)
    if outcome == "dies":
        dead = Dead(Category.PERMANENT, "because")
        return StepResult(job_id, dead, burial=job_burial(row, stage, dead))
    headers = {"ce_type": TYPES["done"], "ce_id": end_id(job_id, TYPES["done"], row.replays)}
    value = b'{"answer":{"usage":{"prompt_tokens":7,"completion_tokens":3}}}'
    return StepResult(job_id, Ended(None), (output,), end=Outgoing(Topic.RESULTS, job_id, headers, value))


@dataclass
class Job:
    """An accepted job: how it stands, how often it was replayed, and the ids of the events about it, in order."""

    id: str
    state: str = "active"
    replays: int = 0
    events: list = field(default_factory=list)

    def end(self, state):
        if self.state == "active":
            self.state = state
            self.events.append(end_id(self.id, TYPES[state], self.replays))

    def settle(self, stage, outcome):
        if outcome in ("goes on", "ends") and self.state == "active":  # and not cancelled meanwhile
            self.events.append(f"{self.id} {stage} {self.replays}")
        if outcome in ("dies", "ends"):
            self.end("dead" if outcome == "dies" else "done")


@dataclass
class Model:
    """What the ledger must know: the accepted jobs; the claims in workers' hands, with what they were given; the events
    that were published, and the commands that came by Kafka.
    """

    jobs: dict = field(default_factory=dict)
    claims: dict = field(default_factory=dict)
    published: list = field(default_factory=list)
    received: list = field(default_factory=list)

    def jobs_in(self, state):
        return [job for job in self.jobs.values() if job.state == state]


def active(machine):
    return len(machine.model.jobs_in("active"))


class LedgerAndModel(RuleBasedStateMachine):
    def __init__(self, database, file):
        super().__init__()
        self.url, self.give_back = database()
        self.ledger, self.file = Ledger.at(self.url), file
        self.ledger.of(Quotas).put("b", QUOTA, "ever")
        self.model, self.backup = Model(), None  # as it is, and as it was when the backup was made
        self.late = {}  # claims that were lost, and what their workers were given

    @precondition(lambda self: active(self) < 4 and len(self.model.jobs) < len(SENT))
    @rule(numbers=st.lists(ONE_JOB, min_size=1, max_size=4).map(tuple))
    def submit(self, numbers):
        self.model.received.append(("submit", numbers))
        jobs = [SENT[number] for number in numbers]
        refused = {job.id for job, _ in self.ledger.ingest(jobs).over}
        assert refused <= OF_B - self.model.jobs.keys()
        for job in jobs:
            if job.id not in refused:
                self.model.jobs.setdefault(job.id, Job(job.id))

    @precondition(lambda self: active(self) > 2)
    @rule(number=ONE_JOB)
    def cancel(self, number):
        self.model.received.append(("cancel", number))
        sent = SENT[number]
        self.ledger.ingest([], cancellations=[Cancellation(sent.id, sent.tenant, "")])
        self.model.jobs.setdefault(sent.id, Job(sent.id)).end("cancelled")

    @precondition(lambda self: active(self) > len(self.model.claims))
    @rule(begins=st.booleans())
    def claim(self, begins=True):
        for claim in self.ledger.claim(WANTED, lease_ms=LEASE, sender="bridge").claims:
            self.model.claims[claim.id] = None
            if begins:
                self.begin(claim.id)

    def begin(self, claim_id):
        started = self.model.claims[claim_id] or self.ledger.start(claim_id, worker=f"of {claim_id}", lease_ms=LEASE)
        self.model.claims[claim_id] = started
        return started

    @precondition(lambda self: self.model.claims)
    @rule(data=st.data(), outcomes=OUTCOMES)
    def complete(self, data, outcomes):
        self.complete_one(data.draw(st.sampled_from(list(self.model.claims))), outcomes)

    def complete_one(self, claim_id, outcomes):
        started = self.begin(claim_id)
        if started.stage == "moderate":
            outcomes = [outcome.replace("goes on", "ends") for outcome in outcomes]
        steps = list(zip(started.steps, outcomes, strict=False))
        results = [settled(row, started.stage, outcome) for row, outcome in steps]
        assert self.ledger.complete(claim_id, results, ran_ms=1, quantum_ms=5_000) is not None
        del self.model.claims[claim_id]
        for row, outcome in steps:
            self.model.jobs[row.job_id].settle(started.stage, outcome)

    @precondition(lambda self: self.model.claims)
    @rule(data=st.data(), is_given_back=st.booleans())
    def lose_the_lease(self, data, is_given_back):
        claim_id = data.draw(st.sampled_from(list(self.model.claims)))
        self.late[claim_id] = self.model.claims.pop(claim_id)
        if is_given_back:
            self.ledger.release([claim_id])
            return
        with writing(self.ledger.engine) as tx:
            tx.execute(update(CLAIMS).where(CLAIMS.c.id == claim_id).values(renewed_at=0, lease_until=1))
        self.reap()

    @precondition(lambda self: self.late)
    @rule(data=st.data(), outcomes=OUTCOMES)
    def complete_too_late(self, data, outcomes):
        claim_id = data.draw(st.sampled_from(list(self.late)))
        started, before = self.late[claim_id], [sorted(self.ledger.read(select(table)), key=repr) for table in TABLES]
        if started is not None:
            results = [settled(row, started.stage, how) for row, how in zip(started.steps, outcomes, strict=False)]
            assert self.ledger.complete(claim_id, results, ran_ms=1, quantum_ms=5_000) is None
        assert self.ledger.start(claim_id, worker=f"of {claim_id}", lease_ms=LEASE) is None
        assert self.ledger.renew([claim_id], LEASE) == frozenset()
        assert [sorted(self.ledger.read(select(table)), key=repr) for table in TABLES] == before

    @precondition(active)
    @rule()
    def delays_end(self):
        with writing(self.ledger.engine) as tx:
            tx.execute(update(STEPS).where(STEPS.c.state == "waiting").values(ready_at=0))
        self.reap()

    def reap(self):
        """Look as a bridge does: a job whose worker died for the second time is dead."""
        if self.ledger.reap(2).poison:
            dead = self.ledger.read(select(JOBS.c.id).where(JOBS.c.state == "dead"))
            (job,) = {row.id for row in dead} & {job.id for job in self.model.jobs_in("active")}
            self.model.jobs[job].end("dead")

    @precondition(lambda self: self.model.jobs_in("dead"))
    @rule(data=st.data())
    def replay(self, data):
        job = data.draw(st.sampled_from(self.model.jobs_in("dead")))
        assert self.ledger.replay(DeadFilter(id=job.id)) == (1, 0)
        job.state, job.replays = "active", job.replays + 1
        if self.ledger.dead(DeadFilter(id=job.id, category=Category.QUOTA)):  # its tenant has no tokens left
            assert job.id in OF_B
            job.end("dead")

    @precondition(lambda self: any(job.events for job in self.model.jobs.values()))
    @rule(most=st.integers(1, 5))
    def publish(self, most):
        rows = self.ledger.outbox(most)
        self.model.published += rows
        self.ledger.published([row.id for row in rows])

    @precondition(lambda self: 3 < len(self.model.jobs) < 7 and self.backup is None and self.model.claims)
    @rule()
    def back_up(self):
        dump(self.url, self.file)
        self.backup = deepcopy(self.model)

    @precondition(lambda self: self.backup not in (None, self.model))
    @rule()
    def go_back(self):
        """Restore the backup: a bridge reads again what came since, and workers still run what they claimed since."""
        restore(self.url, self.file)
        now, self.model, self.backup = self.model, self.backup, None
        lost = self.late | now.claims
        self.late = {claim: given for claim, given in lost.items() if claim not in self.model.claims}
        for command, argument in now.received[len(self.model.received) :]:
            getattr(self, command)(argument)

    @invariant()
    def every_accepted_job_is_there_and_has_its_events_in_order(self):
        rows = self.ledger.read(select(JOBS.c.id, JOBS.c.state, JOBS.c.replays))
        jobs = self.model.jobs.values()
        assert sorted(map(tuple, rows)) == sorted((job.id, job.state, job.replays) for job in jobs)
        events = {job.id: [] for job in jobs}
        for _, record in [*self.model.published, *self.ledger.outbox(1_000)]:
            if record.headers["ce_id"] not in REFUSALS:
                events[record.key].append(record.headers["ce_id"])
        assert events == {job.id: job.events for job in jobs}

    @invariant()
    def every_active_job_waits_for_a_worker_or_is_leased_to_one(self):
        steps = self.ledger.read(select(STEPS.c.job_id, STEPS.c.state, STEPS.c.claim_id))
        live = sorted(row.job_id for row in steps if row.state in LIVE)
        assert live == sorted(job.id for job in self.model.jobs_in("active"))
        assert {row.id for row in self.ledger.read(select(CLAIMS.c.id))} == self.model.claims.keys()
        assert {row.claim_id for row in steps if row.state == "leased"} <= self.model.claims.keys()
        assert {row.claim_id for row in steps if row.state != "leased"} <= {None}

    @invariant()
    def active_jobs_alone_reserve(self):
        reserved = {row.job_id: row.tokens for row in self.ledger.read(select(RESERVATIONS))}
        assert reserved.keys() == OF_B & {job.id for job in self.model.jobs_in("active")}
        (quota,) = self.ledger.of(Quotas).find(["b"])
        assert quota.reserved == sum(reserved.values())
        assert quota.used + quota.reserved <= QUOTA

    def teardown(self):
        try:
            for _ in range(2 * active(self)):  # each has two steps at most
                self.delays_end()
                self.claim()
                for claim_id in list(self.model.claims):
                    self.complete_one(claim_id, ["ends", "ends"])
            assert not active(self)
            assert self.ledger.of(Quotas).find(["b"])[0].reserved == 0
        finally:
            self.ledger.close()
            self.give_back()


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_the_ledger_does_what_its_model_does(dialect, request, tmp_path):
    def database():
        name = f"model_{uuid4().hex[:8]}"
        if dialect == "sqlite":
            return sqlite_tables(tmp_path / name), lambda: None
        server = request.getfixturevalue("postgres")
        return postgres_tables(server, name), lambda: give_back(server, name)

    bounds = settings(max_examples=40 if dialect == "sqlite" else 25, stateful_step_count=30)
    run_state_machine_as_test(lambda: LedgerAndModel(database, tmp_path / "dump"), settings=bounds)
