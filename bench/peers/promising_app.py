"""What a gateway cannot do without: a FastAPI application that validates a body, and answers when Kafka has the job
(acks=all) and a row of the ledger says so. It knows no keys, rates, quotas, callbacks or queues, and keeps no log.

`main([PORT])` serves it as the gateway is served, with the Kafka and the ledger that the environment names.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import uvicorn
from fastapi import FastAPI

from headrace_producers.kafka import KafkaSink
from headrace_producers.sink import Record
from headrace_schemas import Envelope, Topic
from headrace_schemas.codec import encode
from headrace_schemas.event_types import topic_for, type_of
from headrace_schemas.job import GenerationJob
from headrace_workers.core.ledger.accepted import AdmissionRequest
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.machine import spare_what_is_loaded
from headrace_workers.http.batcher import Batcher
from headrace_workers.http.sink import Sink, Topics
from headrace_workers.http.timeouts import Timeouts
from headrace_workers.runtime.settings import Settings
from headrace_workers.wiring.http_server import config_of, listen

_AGE_MS = 1_000  # of a request, at most


class _Promise:
    """Kafka and the ledger, each asked for many requests at a time."""

    def __init__(self, settings: Settings) -> None:
        threads = ThreadPoolExecutor(4)
        ledger = Ledger.at(settings.ledger)

        def write(wishes: Sequence[AdmissionRequest]) -> list[None]:
            ledger.confirm_admission(list(wishes), _AGE_MS)
            return [None] * len(wishes)

        missing: dict[Topic, str] = {}
        timeouts = Timeouts()
        topics = Topics(lambda: missing, threads, timeouts.topics)
        self.sink = Sink(lambda told: KafkaSink(settings.kafka, on_delivery=told), topics, threads, timeouts)
        self._rows: Batcher[AdmissionRequest, None] = Batcher(write, threads, patience=timeouts.ledger)

    async def keep(self, job: GenerationJob) -> str:
        """The id of a job that is safe."""
        event_id = str(uuid.uuid4())
        job_id = job.job_id(event_id)
        kind = type_of(job)
        envelope = Envelope(
            id=event_id, type=kind, source="/bench", time=datetime.now(UTC), subject=job_id, partitionkey=job_id
        )
        headers, value = encode(job, envelope)
        row = self._rows.put(AdmissionRequest(job_id, job.tenant, value, hashlib.sha256(value).hexdigest()))
        await self.sink.publish([Record(topic_for(job), job_id.encode(), headers, value, job_id)])
        await self._rows.answer(row)
        return job_id


@asynccontextmanager
async def _life(app: FastAPI) -> AsyncIterator[None]:
    promise = app.state.promise = _Promise(Settings.from_env())
    await promise.sink.start()
    while promise.sink.trouble:
        await asyncio.sleep(0.1)
    spare_what_is_loaded()
    yield


app = FastAPI(lifespan=_life)


@app.post("/v1/jobs", status_code=202)
async def send(job: GenerationJob) -> dict[str, Any]:
    """Take a job in."""
    return {"object": "job", "id": await app.state.promise.keep(job), "state": "accepted"}


def main(arguments: list[str]) -> None:
    """Serve at this port until SIGTERM."""
    uvicorn.Server(config_of(app)).run([listen("127.0.0.1", int(arguments[0]))])
