"""A deployment with prices, whose workers tests drive step by step."""

import random
from dataclasses import replace
from typing import Any
from uuid import uuid4

from pydantic_core import from_json
from sqlalchemy import select, update
from tests.workers.ledger_jobs import claim_one
from tests.workers.runtime.bridge.records import RULES, accept, generation, record

from headrace_schemas import Answer, Moderated, ModerationVerdict, Output, Usage
from headrace_workers.core.admission import AdmissionRules
from headrace_workers.core.ledger.accounting import KnownCost
from headrace_workers.core.ledger.charges import Price
from headrace_workers.core.ledger.claims import Claim
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Done, Ended, Outcome
from headrace_workers.core.pipeline.receipt import receipt
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.settle import Conditions, settle, task_of
from headrace_workers.core.pipeline.stage import installed_stages
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CLAIMS, JOBS
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.features.cache.stage import stages
from headrace_workers.models.verifiers.verifier import Relation, TextPair
from headrace_workers.models.verifiers.verify_stage import asking

CENT = Price("USD", input=10_000_000, cached=1_000_000, output=20_000_000)  # 10 and 20 micro-units a token
DEAR = replace(CENT, input=15_000_000, output=30_000_000)


class Given:
    def __init__(self, **prices: Price | None) -> None:
        self.prices = prices

    def price(self, model: str) -> Price | None:
        return self.prices.get(model)

    training = price


class Deployment:
    """Admission and workers of a deployment with these prices; its cache may have a `verifier`."""

    def __init__(self, ledger: Ledger, prices: Given, seed: int = 1, verifier: str | None = None) -> None:
        self.ledger, self.prices = ledger, prices
        verifying = () if verifier is None else stages(verifier=verifier)[len(stages()) :]
        self.pipeline = Pipeline([*installed_stages(), *verifying], prices=prices)
        self.rules = AdmissionRules(RULES.models, self.pipeline, RULES.checks)
        self.random = random.Random(seed)

    def new(self, tenant: str = "a", **fields: Any) -> NewJob:
        accepted = accept(record(generation(tenant=tenant, idempotency_key=str(uuid4()), **fields)), self.rules)
        assert isinstance(accepted, NewJob), accepted
        return accepted

    def start(self, claim: Claim, lease_ms: int = 60_000) -> Started | None:
        """Begin a claim as a worker of its own."""
        return self.ledger.start(claim.id, worker=f"w{claim.id}", lease_ms=lease_ms)

    def run(self, queue: str, outcome: Any = None, lane: int = 0) -> list[str]:
        """Run a group of a queue; its jobs. By default it goes as it should."""
        claim = claim_one(self.ledger, queue, lane=lane)
        started = self.start(claim) if claim else None
        if started is None:
            return []
        self.complete(started, outcome or usual)
        return [row.job_id for row in started.steps]

    def complete(self, started: Started, outcome: Any) -> bool:
        settled = self.settled(started, outcome)
        return bool(self.ledger.complete(started.claim_id, settled, ran_ms=5, quantum_ms=1_000))

    def settled(self, started: Started, outcome: Any) -> list[StepResult]:
        conditions = Conditions(self.pipeline, 3, self.random, ran_ms=5.0)
        settled = []
        for row in started.steps:
            task = task_of(row, started.now)
            assert isinstance(task, Task)
            settled.append(settle(started, row, task, outcome(started, task), conditions))
        return settled

    def report(self, started: Started, outcome: Any) -> list[KnownCost]:
        """Say what the calls of a group cost whose claim was lost, as its worker does; the costs that were learnt."""
        paid = {row.job_id: row.paid for row in self.settled(started, outcome) if row.paid is not None}
        return self.ledger.learn_costs(started.claim_id, paid)

    def to_the_end(self) -> None:
        """Run all that is there, until nothing is left."""
        while any(self.run(queue) for queue in QUEUES) or self.ledger.reap(3).promoted:
            pass


QUEUES = ("judge", "moderate", "model.echo", "model.other", "recall")
PAIR = TextPair(Relation.SAME_QUESTION, "How do I cancel?", "How can I cancel?", "a")
VERIFIED = Usage(prompt_tokens=40, completion_tokens=2)


def usual(started: Started, task: Task, *, read: int = 7, written: int = 3) -> Outcome:
    """What a step says where nothing fails, and likeness finds something that a verifier denies."""
    if started.stage == "recall":
        return Done() if "asked" in task.context else asking([PAIR], "verify_hit", {"asked": True})
    if started.stage == "verify_hit":
        return Done(to="recall", usage=VERIFIED)
    if started.stage == "generate":
        answer = Answer(
            text="An answer.", finish_reason="stop", model=started.queue.removeprefix("model."), quantization="none",
            usage=Usage(prompt_tokens=read, completion_tokens=written),
        )  # fmt: skip
        return Done(Output(job_id=task.job_id, tenant=task.job.tenant, answer=answer))
    if started.stage == "moderate":
        assert isinstance(task.event, Output)
        verdict = ModerationVerdict(action="allow")
        return Done(Moderated(job_id=task.job_id, tenant=task.job.tenant, answer=task.event.answer, moderation=verdict))
    assert isinstance(task.event, Moderated)
    return Ended(receipt(task, answer=task.event.answer, moderation=task.event.moderation))


def books(ledger: Ledger, tenant: str = "a") -> tuple[int, int]:
    """What is spent and what is reserved, of the budget without an end."""
    (budget,) = [quota for quota in ledger.of(Quotas).find([tenant], unit="money") if quota.period == "ever"]
    return budget.used, budget.reserved


def costs(ledger: Ledger) -> dict[str, Any]:
    rows = ledger.read(select(JOBS.c.id, JOBS.c.terminal).where(JOBS.c.terminal.is_not(None)))
    return {row.id: from_json(row.terminal).get("cost") for row in rows}


def most_of(new: NewJob) -> int:
    """What the first call of a job may cost."""
    assert new.money > 0
    return new.money


def budget(ledger: Ledger, most: int, period: Any = "ever", **more: Any) -> None:
    ledger.of(Quotas).put("a", most, period, unit="money", **more)


def kill(there: Deployment, claim: Claim) -> Started | None:
    """Begin a claim, and be killed: its lease ends."""
    started = there.start(claim)
    with writing(there.ledger.engine) as tx:
        tx.execute(update(CLAIMS).where(CLAIMS.c.id == claim.id).values(lease_until=1))
    return started
