"""The parts of a deployment that make and deliver webhooks, over a ledger of the test's own."""

from datetime import UTC, datetime
from functools import partial

from sqlalchemy import update
from tests.workers.core.ledger.test_work import settings

from headrace_schemas import Result
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.event_units import Following
from headrace_workers.core.ledger.outbox import outgoing
from headrace_workers.core.ledger.outcome import Ended
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import STEPS
from headrace_workers.features.webhooks import registering
from headrace_workers.features.webhooks.sender import Sender
from headrace_workers.features.webhooks.signing import Sealer
from headrace_workers.features.webhooks.stage import deliver
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.tables import ENDPOINTS
from headrace_workers.features.webhooks.targets import Reach
from headrace_workers.features.webhooks.telling import Telling, Wording
from headrace_workers.runtime.worker.work import Work

HERE = Reach(http_loopback=True)
ORIGINS = ("registered", "callbacks", "place")
ALL = ("job.completed", "job.failed", "job.cancelled", "batch.completed", "endpoint.disabled")


class Office:
    def __init__(self, ledger, sender=None, sealer=None, wording=None):
        self.ledger, self.webhooks = ledger, ledger.of(Webhooks)
        self.sealer = sealer or Sealer()
        self.pipeline = Pipeline()
        self.following = Following([Telling(ledger, wording or Wording()).units])
        step = partial(deliver, webhooks=ledger.of(Webhooks), sender=sender or Sender(HERE), sealer=self.sealer)
        self.work = Work(self.pipeline, {("deliver", "deliver"): step}, settings(), SystemClock())

    def register(self, url, **wanted):
        """An endpoint that listens to all; its id and its secret."""
        known = {"tenant": "default", "events": ALL}
        made = registering.register(self.webhooks, self.sealer, HERE, registering.Wanted(url=url, **(known | wanted)))
        return made.endpoint.id, made.secret

    def relay(self):
        """Publish all that waits, as the relay does; how many deliveries there are."""
        rows = self.ledger.outbox(1_000)
        units = self.following.units([row.record for row in rows], self.ledger.now())
        self.ledger.make_units(units)
        self.ledger.published([row.id for row in rows])
        return len(units)

    def end(self, *_jobs):
        """End all jobs that there are, and publish that; how many deliveries there are."""
        self.settle()
        return self.relay()

    def settle(self):
        for claim in self.ledger.claim([Wanted("judge", 0, 100, 64)], lease_ms=60_000, sender="b").claims:
            started = self.ledger.start(claim.id, worker="w", lease_ms=60_000)
            settled = [_settled(row) for row in started.steps]
            assert self.ledger.complete(claim.id, settled, ran_ms=1, quantum_ms=1)

    def claims(self):
        return self.ledger.claim([Wanted("deliver", 1, 100, 128)], lease_ms=60_000, sender="b").claims

    def deliver(self):
        """Do all that is ready; how many claims that were."""
        done = 0
        while claims := self.claims():
            for claim in claims:
                self.run(claim)
            done += len(claims)
        return done

    def run(self, claim):
        started = self.ledger.start(claim.id, worker="w", lease_ms=60_000)
        settled = self.work.do(started)
        assert self.ledger.complete(started.claim_id, settled, ran_ms=1, quantum_ms=5_000) is not None

    def let_time_pass(self):
        with writing(self.ledger.engine) as tx:
            waits = STEPS.c.state.in_(["waiting", "parked"])
            tx.execute(update(STEPS).where(waits).values(state="ready", waits_for=None))
            tx.execute(update(ENDPOINTS).where(ENDPOINTS.c.paused_until.is_not(None)).values(paused_until=1))

    def states(self, **which):
        from headrace_workers.features.webhooks.store.deliveries import Range

        return [delivery.state for delivery in reversed(self.webhooks.deliveries(Range(**which), 1_000))]


def _settled(row):
    result = Result(
        job_id=row.job_id, tenant=row.tenant, status="completed", kind="evaluation", accepted_at=datetime.now(UTC)
    )
    end = outgoing(
        result, event_id=f"e-{row.job_id}"[:36], job_id=row.job_id, traceparent=None, correlationid=None,
        at_ms=1_700_000_000_000,
    )  # fmt: skip
    return StepResult(row.job_id, Ended(result), end=end)
