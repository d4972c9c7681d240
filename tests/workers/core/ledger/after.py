"""A stage of the tests' own that follows every kind of end."""

import uuid
from datetime import UTC, datetime

from sqlalchemy import select
from tests.workers.core.ledger.test_work import settings
from tests.workers.runtime.bridge.records import evaluation

from headrace_schemas import Result
from headrace_schemas.codec import decode_job, decode_value
from headrace_schemas.uuids import Namespace
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.event_units import Following, NewUnit
from headrace_workers.core.ledger.outbox import outgoing
from headrace_workers.core.ledger.outcome import Done, Ended
from headrace_workers.core.ledger.steps import BATCH, NewStep
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.stage import RetrySchedule, Stage, Weight
from headrace_workers.core.tables import JOBS
from headrace_workers.runtime.worker.work import Work

ENDS = ("headrace.result.v1", "headrace.dead.v1", "headrace.job.cancelled.v1")
_USUAL = RetrySchedule()
_UNITS = Namespace(uuid.UUID("5b1f0b0c-8d0e-5a55-9d0c-3f1f5b9f6a11"))


def places(event, job):
    """The endpoints that a job names, or the event's tenant where there is no job."""
    return job.metadata.get("tell", "").split() if job else [f"of {event.tenant}"]


def units_after(ledger, places=places, patience=259_200.0, most_open=10_000):
    """What makes a unit of each end for each of the `places(event, job)`: see `Feature.follows`."""

    def of(record, jobs, now):
        event_type, event_id = record.headers["ce_type"], record.headers["ce_id"]
        event = decode_value(event_type, record.value)
        found = jobs.get(record.key)
        job = decode_job(*found) if found and found[1] else None  # one that was cancelled before it came has no content
        for endpoint in dict.fromkeys(places(event, job)):
            step = NewStep(
                job_id="", stage="after", queue="after", group_key="after", lane=BATCH, rank=4,
                deadline=now + int(patience * 1_000), turn=0, tokens=1, event_type=event_type, payload=record.value,
                read_bytes=len(record.value),
            )  # fmt: skip
            yield NewUnit(
                id=_UNITS.id_of(f"{event_id}\n{endpoint}"), subject=record.key, tenant=event.tenant,
                endpoint=endpoint, step=step, most_open=most_open,
            )  # fmt: skip

    def units(records, now):
        ends = [record for record in records if record.headers["ce_type"] in ENDS]
        jobs = ledger.jobs_of([record.key for record in ends])
        return [unit for record in ends for unit in of(record, jobs, now)]

    return units


class After:
    """A ledger whose pipeline has a stage `after` that follows every kind of end."""

    def __init__(self, ledger, step=lambda units: [Done() for _ in units], retry=_USUAL, **units):
        self.ledger, self.heard = ledger, []
        self.stage = Stage(name="after", order=1_000, step=step, weight=Weight.IO, retry=retry)
        self.pipeline = Pipeline((*Pipeline().stages, self.stage))
        self.following = Following([units_after(ledger, **units)])

    def relay(self):
        """Publish all that waits, as the relay does; how many units there are."""
        rows = self.ledger.outbox(1_000)
        units = self.following.units([row.record for row in rows], self.ledger.now())
        self.ledger.make_units(units)
        self.ledger.published([row.id for row in rows])
        return len(units)

    def run(self):
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
    result = Result(
        job_id=job_id, tenant="default", status="completed", kind="evaluation", accepted_at=datetime.now(UTC)
    )
    end = outgoing(result, event_id=f"e-{job_id}"[:36], job_id=job_id, traceparent=None, correlationid=None, at_ms=1)
    wanted = [Wanted("judge", 0, 1, 1), Wanted("model.echo", 0, 1, 1)]
    for claim in ledger.claim(wanted, lease_ms=60_000, sender="b").claims:
        ledger.start(claim.id, worker="w", lease_ms=60_000)
        assert ledger.complete(claim.id, [StepResult(job_id, Ended(result), end=end)], ran_ms=1, quantum_ms=1)


def told(**changes):
    return evaluation(metadata={"tell": "a b"}, **changes)
