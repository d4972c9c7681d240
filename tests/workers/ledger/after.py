"""A stage of the tests' own that follows every kind of end."""

from datetime import UTC, datetime

from sqlalchemy import select
from tests.workers.bridge.records import evaluation
from tests.workers.ledger.test_work import settings

from headrace_schemas import Result
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.claim import Wanted
from headrace_workers.core.ledger.complete import Advanced
from headrace_workers.core.ledger.outbox import outgoing
from headrace_workers.core.pipeline.following import Following
from headrace_workers.core.pipeline.outcome import Done
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import Stage, Weight
from headrace_workers.core.tables import JOBS
from headrace_workers.runtime.worker.work import Work
from headrace_workers.wiring.stages import STAGES

ENDS = ("headrace.result.v1", "headrace.dead.v1", "headrace.job.cancelled.v1")


def places(event, job):
    """The endpoints that a job names, or the event's tenant where there is no job."""
    return job.metadata.get("tell", "").split() if job else [f"of {event.tenant}"]


class After:
    """A ledger whose pipeline has a stage `after` that follows every kind of end."""

    def __init__(self, ledger, step=lambda units: [Done() for _ in units], **changes):
        self.ledger, self.heard = ledger, []
        known = {"name": "after", "step": step, "weight": Weight.IO, "follows": ENDS, "endpoints": places}
        self.stage = Stage(**(known | changes))
        self.pipeline = Pipeline((*STAGES, self.stage))
        self.following = Following(self.pipeline, ledger)

    def relay(self):
        """Publish all that waits, as the relay does; how many units there are."""
        rows = self.ledger.outbox(1_000)
        units = self.following.units([row.record for row in rows], self.ledger.now())
        self.ledger.follow(units)
        self.ledger.published([row.id for row in rows])
        return len(units)

    def run(self):
        """Run the first group of what follows."""
        (claim,) = self.ledger.claim([Wanted("after", 1, 1, 32)], lease_ms=60_000, sender="b").claims
        started = self.ledger.start(claim.id, worker="w", lease_ms=60_000)

        def step(units):
            self.heard += units
            return self.stage.step(units)

        settled = Work(self.pipeline, {("after", "after"): step}, settings(), SystemClock()).do(started)
        assert self.ledger.complete(started.claim_id, settled, ran_ms=1, quantum_ms=5_000) is not None

    def units(self):
        """State of each unit, by subject and endpoint."""
        rows = self.ledger.read(select(JOBS).where(JOBS.c.subject.is_not(None)))
        return {(row.subject, row.endpoint): row.state for row in rows}


def answer(ledger, job_id):
    """End a job with a result."""
    result = Result(
        job_id=job_id, tenant="default", status="completed", kind="evaluation", accepted_at=datetime.now(UTC)
    )
    end = outgoing(result, event_id=f"e-{job_id}"[:36], job_id=job_id, traceparent=None, correlationid=None, at_ms=1)
    wanted = [Wanted("judge", 0, 1, 1), Wanted("model.echo", 0, 1, 1)]
    for claim in ledger.claim(wanted, lease_ms=60_000, sender="b").claims:
        ledger.start(claim.id, worker="w", lease_ms=60_000)
        assert ledger.complete(claim.id, [Advanced(job_id, end=end)], ran_ms=1, quantum_ms=1)


def told(**changes):
    """An evaluation that wants two endpoints to hear of its end."""
    return evaluation(metadata={"tell": "a b"}, **changes)
