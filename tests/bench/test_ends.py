from datetime import UTC, datetime

import pytest
from bench.ends import Ends, Stalled
from kafka import KafkaProducer

from headrace_schemas import Category, DeadLetter, JobCancelled
from headrace_schemas.codec import encode
from headrace_schemas.envelope import Envelope
from headrace_schemas.event_types import topic_for, type_of
from headrace_schemas.job import derive_job_id

NOW = datetime(2030, 1, 1, tzinfo=UTC)
A, B = (derive_job_id("default", key) for key in "ab")
ENDED = JobCancelled(job_id=A, tenant="default", reason="enough")
DEAD = DeadLetter(job_id=B, category=Category.PERMANENT, reason="no", stage="judge", topic="t", size=1, original="x",
                  encoding="utf-8")  # fmt: skip


def publish(kafka, *events):
    """Events as the bridge publishes them: the events of one topic and job are one batch."""
    client = KafkaProducer(**kafka.client_options(), linger_ms=1_000)  # closing it ends the wait
    for event in events:
        headers, value = encode(event, Envelope(id="e", type=type_of(event), source="/bridge", time=NOW))
        client.send(kafka.topic(topic_for(event)), key=(event.job_id or "").encode(), value=value, headers=headers)
    client.close()


def test_dead_letters_of_an_earlier_run_do_not_count(kafka):
    publish(kafka, DEAD, DEAD, DEAD)
    with Ends(kafka) as ends:
        publish(kafka, ENDED)
        assert list(ends.wait([A], print, keep=True).values.items()) == [(A, ENDED)]
        publish(kafka, DEAD)
        with pytest.raises(Stalled, match=f"{B} ended in `dead`: no"):
            ends.wait([B], print)
