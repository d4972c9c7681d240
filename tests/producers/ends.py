"""Ends of jobs, published as the bridge does, for tests of those who read them."""

import os
from datetime import UTC, datetime

from kafka import KafkaProducer

from headrace_schemas import DeadLetter, Result
from headrace_schemas.codec import encode
from headrace_schemas.envelope import Envelope
from headrace_schemas.errors import Category
from headrace_schemas.event_types import topic_for, type_of
from headrace_schemas.job import derive_job_id

SOURCES = {**os.environ, "PYTHONPATH": "producers:schemas"}


NOW = datetime(2030, 1, 1, tzinfo=UTC)


A, B, C = (derive_job_id("default", key) for key in "abc")


def result(job_id):
    return Result(job_id=job_id, tenant="default", status="completed", kind="evaluation", accepted_at=NOW)


def dead(job_id):
    return DeadLetter(
        job_id=job_id, category=Category.PERMANENT, reason="no", stage="generate", topic="t", size=1, original="x",
        encoding="utf-8",
    )  # fmt: skip


def publish_to(kafka, pairs):
    """Publishes events as the bridge does, each under an id; waits until they are there."""
    # It lingers so that what is sent at once is one batch; the flush ends the wait.
    client = KafkaProducer(**kafka.client_options(), allow_auto_create_topics=False, linger_ms=1_000)
    for event_id, event in pairs:
        envelope = Envelope(id=event_id, type=type_of(event), source="/bridge", time=NOW, subject=event.job_id)
        headers, value = encode(event, envelope)
        client.send(kafka.topic(topic_for(event)), key=(event.job_id or "").encode(), value=value, headers=headers)
    client.flush()
    client.close()
