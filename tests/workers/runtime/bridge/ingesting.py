"""Polling as a bridge does, and seeing what its ledger has."""

from sqlalchemy import select
from tests.services.eventually import eventually
from tests.workers.runtime.bridge.records import generation

from headrace_workers.core.tables import JOBS


def until(ingest, condition, seconds=120):
    def look():
        ingest.once(lambda hint: None)
        return condition()

    return eventually(look, seconds)


def states(ledger):
    return {row.id: row.state for row in ledger.read(select(JOBS.c.id, JOBS.c.state))}


def done_with(ledger, kafka, topic):
    """How many records of a topic need not be read again."""
    return sum(following for place, following in ledger.positions().items() if place.topic == kafka.topic(topic))


def keyed(number):
    job = generation(idempotency_key=str(number))
    return job, job.job_id("")
