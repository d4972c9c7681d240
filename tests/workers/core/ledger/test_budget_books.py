"""What is spent and reserved of budgets, while threads race, kill and cancel."""

import random
import threading
import time
from datetime import date
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.workers.core.ledger.budget_deployment import (
    CENT,
    DEAR,
    QUEUES,
    Deployment,
    Given,
    books,
    budget,
    costs,
    kill,
    usual,
)
from tests.workers.core.ledger.test_token_quotas import again
from tests.workers.ledger_jobs import claim_one

from headrace_schemas import Category
from headrace_workers.core.ledger.accounting import KnownCost, account
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Dead, Outcome, Retry
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.sql.database import clock, writing
from headrace_workers.core.tables import CLAIMS, JOBS, LOST_CALLS, STEPS
from headrace_workers.features.access.store import quota_rows, quotas
from headrace_workers.features.access.tables import RESERVATIONS
from headrace_workers.features.spend.store import Spending


@pytest.mark.integration  # it goes on for seconds, so that threads meet
@pytest.mark.parametrize("jobs", [150, pytest.param(10_000, marks=pytest.mark.luck)])
def test_the_books_balance_under_kills_cancels_retries_and_bursts(ledger: Ledger, jobs: int):
    """At every moment what is spent and reserved is what ends and reservations say, and never more than the budget; at
    the end all that is not spent is free. Slow workers tell what their lost calls cost, some after the ends: what is
    spent and what is accounted for say so, where receipts tell the bound.
    """
    world = Chaos(ledger, jobs)
    world.run()
    assert world.failed == []
    spent, reserved = books(ledger)
    told = costs(ledger)
    behind = sum(cost.bound - cost.amount for cost in world.known if cost.told_at is not None)
    assert (reserved, spent) == (0, sum(cost["amount"] for cost in told.values() if cost) - behind)
    assert spent <= world.most
    assert any(cost.told_at is not None for cost in world.known)
    with writing(ledger.engine) as tx:
        while account(tx, clock(tx) + 1).more:
            pass
    (day,), _ = ledger.of(Spending).spent((), date.min, date.max, "a")
    assert day.amount == spent
    ends = sum(cost["bound"] for cost in told.values() if cost)
    assert day.bound == ends - sum(cost.bound for cost in world.known if cost.told_at is not None) > 0
    assert not ledger.read(select(LOST_CALLS).where(LOST_CALLS.c.amount.is_not(None)))
    assert {"done", "dead", "cancelled"} <= world.ends()
    assert ledger.read(select(RESERVATIONS)) == []
    left = world.there.new()
    assert (ledger.ingest([left]).new == 1) == (world.most - spent >= left.money)


class Chaos:
    """Jobs that come in bursts, and workers that answer, fail, are killed, stop, and are told of cancellations."""

    def __init__(self, ledger: Ledger, jobs: int) -> None:
        self.there = Deployment(ledger, Given(echo=CENT, other=DEAR), seed=7, verifier="other")
        self.ledger, self.jobs = ledger, jobs
        self.most = jobs * 60_000
        self.failed: list[BaseException] = []
        self.sent: list[str] = []
        self.slow: list[tuple[Started, int]] = []  # lost to their workers, and when to report (ms)
        self.known: list[KnownCost] = []
        self.lock = threading.Lock()
        self.over = threading.Event()

    def run(self) -> None:
        budget(self.ledger, self.most)
        budget(self.ledger, 10**12, "day")
        self.ledger.ingest([self.there.new()])
        first = claim_one(self.ledger, lane=0)
        assert first is not None
        self.slow += [(lost, 0) for lost in [kill(self.there, first)] if lost is not None]
        work = [self._worker, self._worker, self._worker, self._canceller, self._reaper, self._auditor]
        threads = [threading.Thread(target=self._guarded, args=(act,)) for act in work]
        for thread in threads:
            thread.start()
        senders = [threading.Thread(target=self._guarded, args=(self._send,)) for _ in range(3)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        until = time.monotonic() + 1.0 + self.jobs / 50
        while self.ledger.active_jobs() and not self.over.wait(0.2):
            if time.monotonic() > until and self.ends() >= {"done", "dead", "cancelled"}:  # a slow machine needs longer
                break
        self.over.set()
        for thread in threads:
            thread.join()
        with writing(self.ledger.engine) as tx:  # what is killed is found, and nothing is killed any more
            tx.execute(update(CLAIMS).values(lease_until=1))
        self._drain()
        for started, _ in self.slow:  # after all ends
            self._report(started)

    def ends(self) -> set[str]:
        return {row.state for row in self.ledger.read(select(JOBS.c.state).distinct())}

    def _drain(self) -> None:
        while self.ledger.active_jobs():
            with writing(self.ledger.engine) as tx:
                tx.execute(update(STEPS).where(STEPS.c.state == "waiting").values(ready_at=1))
            self.ledger.reap(3)
            while any(self.there.run(queue, self._answered) for queue in QUEUES):
                pass

    def _guarded(self, act: Any) -> None:
        try:
            act()
        except BaseException as error:
            self.failed.append(error)
            self.over.set()

    def _send(self) -> None:
        for _ in range(self.jobs // 30):
            new = [self.there.new(model=self._model(), cache=self._cache()) for _ in range(10)]
            again(lambda new=new: self.ledger.ingest(new))
            with self.lock:
                self.sent += [job.id for job in new]

    def _model(self) -> Any:
        return self.there.random.choice(["echo", ("echo", "other"), ("other", "echo")])

    def _cache(self) -> str:
        return self.there.random.choice(["off", "off", "semantic"])  # the verifier is asked about a third

    def _worker(self) -> None:
        chance = random.Random()
        while not self.over.is_set():
            for queue in QUEUES:
                claim = again(lambda queue=queue: claim_one(self.ledger, queue, lane=0, limit=4))
                if claim is None:
                    continue
                fate = chance.random()
                if fate < 0.1:
                    lost = again(lambda claim=claim: kill(self.there, claim))
                    if lost is not None and queue.startswith("model.") and fate < 0.06:  # it was not killed
                        self.slow.append((lost, self.ledger.now() + chance.randrange(400)))
                    continue
                with self.lock:  # the first of them reports after all ends
                    is_due = len(self.slow) > 1 and self.slow[1][1] < self.ledger.now()
                    late = self.slow.pop(1)[0] if is_due else None
                if late is not None:
                    self._report(late)
                started = again(lambda claim=claim: self.there.start(claim))
                if started is None:
                    continue
                if fate < 0.15:
                    again(lambda claim=claim: self.ledger.give_back([claim.id]))
                    continue
                outcomes = {row.job_id: self._outcome(chance) for row in started.steps}
                again(lambda started=started, outcomes=outcomes: self.there.complete(
                    started, lambda at, task: (outcomes[task.job_id] or self._answered)(at, task)
                    if at.stage == "generate" else usual(at, task)
                ))  # fmt: skip

    def _report(self, late: Started) -> None:
        """Report twice what the calls of a group cost, at different moments: one of them counts."""
        for _ in range(2):
            self.known += again(lambda: self.there.report(late, usual))

    def _outcome(self, chance: random.Random) -> Any:
        kinds = [
            lambda *_: Retry("cut", category=Category.REROUTABLE, billed=True),
            lambda *_: Retry("refused", category=Category.REROUTABLE),
            lambda *_: Dead(Category.PERMANENT, "no", billed=True),
            lambda *_: Dead(Category.PERMANENT, "no"),
        ]
        return chance.choice(kinds) if chance.random() < 0.3 else None

    def _answered(self, started: Started, task: Task) -> Outcome:
        return usual(started, task, read=20, written=15)

    def _canceller(self) -> None:
        chance = random.Random(5)
        while not self.over.wait(0.02):
            with self.lock:
                job_id = chance.choice(self.sent) if self.sent else None
            if job_id:
                again(lambda job_id=job_id: self.ledger.cancel_all([Cancellation(job_id, "a", "")]))

    def _reaper(self) -> None:
        while not self.over.wait(0.05):
            again(lambda: self.ledger.reap(3))

    def _auditor(self) -> None:
        while not self.over.wait(0.1):
            again(self._audit)

    def _audit(self) -> None:
        with writing(self.ledger.engine) as tx:
            quotas.hold(tx, ["a"])
            (found,) = [quota for quota in quota_rows.quotas(tx, ["a"], unit="money") if quota.period == "ever"]
            open_ = sum(tx.execute(select(RESERVATIONS.c.money)).scalars())
        assert found.reserved == open_
        assert found.used + found.reserved <= found.most
