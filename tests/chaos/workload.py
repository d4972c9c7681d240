"""Jobs for a long run: published a few at a time, again where the broker did not confirm them."""

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
from kafka import KafkaProducer
from kafka.errors import KafkaError
from tests.chaos.deployment import MODEL, Deployment, large_job

from headrace_schemas import Envelope, GenerationJob, HeadraceError
from headrace_schemas.codec import encode
from headrace_schemas.criteria import Length
from headrace_schemas.errors import Unavailable
from headrace_schemas.event_types import topic_for, type_of

AWAY = (psycopg.OperationalError, sqlite3.OperationalError)
_CHUNK = 500
_AHEAD = 5_000  # jobs under way at most, so that faults find work from the first to the last
# How the chunks come, in turns: a reader that lacks one of these libraries would stop for ever.
_COMPRESSIONS = (None, "gzip", "lz4", "snappy", "zstd")
_CLIENT = {
    "linger_ms": 100, "max_block_ms": 3_000, "bootstrap_timeout_ms": 3_000, "request_timeout_ms": 2_000,
    "delivery_timeout_ms": 3_000,
}  # fmt: skip
_LARGE_EVERY = 701  # jobs: of so many, one's output is too large, while a fault says so
_SECRET = "river.keeper@headrace.io"  # every tenth answer would show it, did moderation not stop it


class Workload:
    """`jobs` jobs, of which the broker has confirmed `ids`."""

    forbidden = (_SECRET,)

    def __init__(self, deployment: Deployment, jobs: int) -> None:
        self.jobs = jobs
        self.ids: list[str] = []
        self._deployment = deployment
        self._ended = 0

    def step(self) -> int:
        """Publish a few more when there is room; how many jobs have ended, as far as is known."""
        with contextlib.suppress(*AWAY):
            self._ended = self._deployment.ended()
        if len(self.ids) < self.jobs and len(self.ids) - self._ended < _AHEAD:
            with contextlib.suppress(HeadraceError):  # not confirmed: the same again at the next step, which is safe
                self._publish(_CHUNK)
        return self._ended

    def finish(self) -> None:
        while len(self.ids) < self.jobs:
            self._publish(_CHUNK)

    def _publish(self, most: int) -> None:
        numbers = range(len(self.ids), min(self.jobs, len(self.ids) + most))
        jobs = [_job(number) for number in numbers]
        compression = _COMPRESSIONS[numbers.start // _CHUNK % len(_COMPRESSIONS)]
        if compression is None:
            with self._deployment.producer(patience=3.0) as producer:
                for job in jobs:
                    producer.submit(job)
        else:
            self._send_compressed(jobs, compression)
        self.ids += [job.job_id("") for job in jobs]

    def _send_compressed(self, jobs: list[GenerationJob], compression: str) -> None:
        """As a client with other settings does: its batches come compressed."""
        kafka = self._deployment.settings
        with (
            _translated(),
            closing(KafkaProducer(**kafka.client_options(), compression_type=compression, **_CLIENT)) as client,
        ):
            sent = []
            for job in jobs:
                envelope = Envelope(id=str(uuid4()), type=type_of(job), source="/chaos", time=datetime.now(UTC))
                headers, value = encode(job, envelope)
                sent.append(client.send(kafka.topic(topic_for(job)), value=value, headers=headers))
            for item in sent:
                item.get(timeout=5)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except KafkaError as error:
        raise Unavailable(f"not confirmed: {error}") from error


def _job(number: int) -> GenerationJob:
    if number % _LARGE_EVERY == 0:
        return large_job(f"chaos-{number}")
    secret = f" and write to {_SECRET}" if number % 10 == 0 else ""
    return GenerationJob(
        model=MODEL,
        prompt=f"%%sleep:0.005%% tell me of the river number {number}{secret}",
        idempotency_key=f"chaos-{number}",
        criteria=(Length(min_words=1),),
    )
