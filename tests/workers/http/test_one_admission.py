"""One admission: a job that cannot be run is refused with the same words by whichever way it comes."""

import io
import json
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tests.services.eventually import eventually
from tests.services.kafka import KafkaServer
from tests.services.redis import RedisServer
from tests.services.tables import sqlite_tables
from tests.workers.http.conftest import bridge_of
from tests.workers.http.served import served
from tests.workers.runtime.bridge.records import record

from headrace_producers import Producer
from headrace_producers.admin import ensure_topics
from headrace_producers.kafka import KafkaSink
from headrace_schemas.codec import decode_job
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.json_lines import read_on
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.features.batches.lines import LONGEST_LINE, Terms, admitted
from headrace_workers.models.embedders.hashed import make_hash_embedder
from headrace_workers.runtime.bridge.record_admission import RecordAdmission
from headrace_workers.runtime.settings import ModelSettings, Settings
from headrace_workers.testing import make_echo_model, make_tiny_model

NO_ENDPOINT = f"we_{'2' * 24}"


def generation(**fields: object) -> tuple[str, dict[str, object]]:
    return "generation", {"model": "echo", "prompt": "hello", **fields}


def judged(criterion: dict[str, object]) -> tuple[str, dict[str, object]]:
    return generation(criteria=[criterion])


# Kind and content of a job, and how the reason begins.
REFUSED = {
    "a deadline": (generation(deadline="2001-01-01T00:00:00Z"), "the deadline 2001-01-01T00:00:00+00:00 has passed"),
    "a model": (generation(model="gpt-9"), "no model is called 'gpt-9'; known are: echo, tiny"),
    "a judge": (
        judged({"criterion": "rubric", "question": "Kind?", "model": "gpt-9"}),
        "no model is called 'gpt-9'; known are: echo, tiny",
    ),
    "a moderator": (
        ("moderation", {"input": "a", "model": "omni"}),
        "no moderator is called 'omni'; there is: headrace-policy, which need not be named",
    ),
    "an embedder": (("embedding", {"model": "echo", "input": "a"}), "no embedder is called 'echo'; there is: hash"),
    "a pattern": (judged({"criterion": "regex", "pattern": "("}), "criteria.0.pattern: the pattern is no RE2"),
    "a schema": (
        judged({"criterion": "json_schema", "json_schema": {"type": "text"}}),
        "criteria.0.json_schema: the schema cannot be used",
    ),
    "a format": (
        generation(output={"type": "json_schema", "json_schema": {"properties": {"id": {"pattern": "(?!a)b"}}}}),
        "output.json_schema, at /properties/id/pattern: the pattern looks around",
    ),
    "a format that takes too much to compile": (
        generation(output={"type": "regex", "pattern": "(a{1000}){1000}"}),
        "output.pattern: it takes more than 1 s, 144 MB or levels of nesting",
    ),
    "parameters of a tool": (
        generation(tools=[{"name": "t", "parameters": {"then": {}}}], tool_choice="required"),
        "tools[0].parameters, at /then: it stands without if",
    ),
    "a choice of a tool": (generation(tools=[{"name": "t"}]), "the model echo cannot choose whether to call a tool"),
    "a long prompt": (generation(model="tiny", prompt="x" * 3_000), "the prompt has "),
    "a callback to an inner address": (
        generation(callback={"url": "https://10.0.0.1/"}),
        "callback.url: webhooks may not go there: 10.0.0.1 is not a public address",
    ),
    "a callback without TLS": (
        generation(callback={"url": "http://shop.example/"}),
        "callback.url: the scheme is http",
    ),
    "an endpoint": (
        generation(callback={"endpoint": NO_ENDPOINT}),
        f"callback.endpoint: the tenant default has registered no webhook endpoint {NO_ENDPOINT}",
    ),
    "a knowledge base": (generation(knowledge="dogs"), "default has no knowledge base 'dogs', nor a vector store"),
}


@pytest.fixture(scope="module")
def settings(embedded_kafka: KafkaServer, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory):
    """A deployment with two models, a chain of both, and an embedder."""
    home = tmp_path_factory.mktemp("home")
    make_echo_model(home)
    make_tiny_model(home)
    make_hash_embedder(home)
    (home / "models.toml").write_text('[chains.careful]\nmodels = ["tiny", "echo"]\n')
    kafka = embedded_kafka.settings(f"one{uuid4().hex[:8]}.")
    ensure_topics(kafka)
    ledger = sqlite_tables(home / "ledger.db")
    return Settings(
        home=home, kafka=kafka, redis=redis_server.url, ledger=ledger, parts=(ModelSettings(embedder="hash"),)
    )


def test_every_way_refuses_a_job_with_the_same_words(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    # Too little for the large pattern. Whether it takes more than a second depends on the machine.
    monkeypatch.setattr("headrace_workers.models.structured.compiling.MEMORY", 144 * 1024**2)
    ids: dict[str, str] = {}
    with served(settings) as gateway, bridge_of(settings), gateway.client() as client:
        with Producer(KafkaSink(settings.kafka)) as producer:
            for name, ((kind, fields), _) in REFUSED.items():
                job = decode_job(kind, json.dumps(fields | {"idempotency_key": name}).encode())
                ids[name] = producer.submit(job)
        ledger = gateway.services.ledger
        admit = RecordAdmission(gateway.services.rules, ledger.now()).admit
        terms = Terms("batch_1", 1, "default", ledger.now() + 60_000, Defaults("", {"tenant": "default"}))
        for name, ((kind, fields), begins) in REFUSED.items():
            sent = client.post("/v1/jobs", json={"kind": kind, **fields})
            assert sent.status_code == (404 if name == "a knowledge base" else 400), sent.text
            reason = sent.json()["detail"]
            assert reason.startswith(begins)
            letter = eventually(partial(_refused, client, ids[name]))
            assert (letter["reason"], letter["category"]) == (reason, "expired" if name == "a deadline" else "invalid")
            line = next(read_on(io.BytesIO(json.dumps({"kind": kind, **fields}).encode()), LONGEST_LINE))
            assert admitted(line, terms, admit).reason == reason


def test_a_chain_of_the_catalogue_is_admitted_by_each_way(settings: Settings):
    chain = json.dumps({"prompt": "hello", "model": "careful"}).encode()
    with served(settings) as gateway, gateway.client() as client:
        assert client.post("/v1/jobs", content=chain).status_code == 202
        admission = RecordAdmission(gateway.services.rules, gateway.services.ledger.now())
        assert isinstance(admission.admit(record(decode_job("generation", chain))), NewJob)


def _refused(client: httpx.Client, job_id: str) -> dict[str, Any] | None:
    told = client.get(f"/v1/jobs/{job_id}").json()
    return told["end"] if told.get("state") == "refused" else None
