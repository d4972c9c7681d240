"""`headrace submit` under a key that another job has: told at once, whatever the broker is."""

import pytest
from tests.services.kafka import KafkaServer
from tests.services.records import read
from tests.services.tables import sqlite_tables
from tests.workers.cli.conftest import Call
from tests.workers.ledger_jobs import take_in

from headrace_producers.admin import ensure_topics
from headrace_schemas import GenerationJob, Topic
from headrace_workers.core.ledger.ledger import Ledger


@pytest.mark.parametrize("durable", [True, False])
def test_a_key_with_other_content_is_told_before_anything_is_sent(
    call: Call, tmp_path, monkeypatch, embedded_kafka: KafkaServer, fresh_prefix: str, durable: bool
):
    kafka = embedded_kafka.settings(fresh_prefix)
    ensure_topics(kafka, partitions=1)
    url = sqlite_tables(tmp_path / "ledger.db")
    ledger = Ledger.at(url)
    for name, value in (
        ("KAFKA", kafka.address),
        ("TOPIC_PREFIX", fresh_prefix),
        ("LEDGER", url),
        ("KAFKA_GROUPS", "off"),
    ):
        monkeypatch.setenv(f"HEADRACE_{name}", value)
    monkeypatch.setattr("headrace_workers.cli.connections.is_durable", lambda: durable)
    first = GenerationJob(prompt="first", model="echo", idempotency_key="order-1")
    (job_id,) = take_in(ledger, [first])
    (tmp_path / "jobs.jsonl").write_text('{"prompt": "second", "model": "echo", "idempotency_key": "order-1"}\n')
    code, out, said = call("submit", "jobs.jsonl")
    assert (code, out) == (1, "")
    assert f"line 1: refused: job {job_id} is there with other content (it differs in prompt): send this under" in said
    assert (
        "(it differs in lane)"
        in call("submit", "-p", "first", "--model", "echo", "--key", "order-1", "--lane", "batch")[2]
    )
    assert read(kafka, [Topic.GENERATION]) == []
    code, out, _ = call("submit", "-p", "first", "--model", "echo", "--key", "order-1")
    assert (code, out) == (0, f"{job_id}\n")
    if durable:
        with (tmp_path / "jobs.jsonl").open("a") as file:
            file.write('{"prompt": "third", "model": "echo", "idempotency_key": "order-3"}\n')
        code, out, _ = call("submit", "jobs.jsonl")
        assert (code, len(out.splitlines()), job_id in out) == (1, 1, False)
    ledger.close()
