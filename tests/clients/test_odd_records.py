"""Records as a JavaScript service may send them, good and odd, through a real broker to the door."""

import json
from uuid import uuid4

import pytest
from tests.services.records import read
from tests.workers.runtime.bridge.records import RULES, accept

from headrace_producers.admin import ensure_topics
from headrace_schemas import Topic
from headrace_schemas.job import derive_job_id
from headrace_schemas.topics import topic_of
from headrace_workers.core.ledger.dead_letters import Burial, Record
from headrace_workers.core.ledger.ingest import NewJob

SEND = """
import { CompressionTypes, Kafka, Partitioners, logLevel } from "kafkajs";
import { readFileSync } from "node:fs";
const { broker, topic, messages } = JSON.parse(readFileSync(0, "utf8"));
const bytes = (text) => text === null ? null : Buffer.from(text, "latin1");
const producer = new Kafka({ brokers: [broker], logLevel: logLevel.ERROR })
  .producer({ createPartitioner: Partitioners.DefaultPartitioner });
await producer.connect();
for (const { key, value, headers } of messages) {
  for (let n = 0; n < (headers.many ?? 0); n++) headers[`x-${n}`] = "v";
  delete headers.many;
  await producer.send({ topic, acks: -1, compression: CompressionTypes.GZIP,
                        messages: [{ key, value: bytes(value), headers, partition: 0 }] });
}
await producer.disconnect();
"""

HEADERS = {
    "ce_specversion": "1.0",
    "ce_id": "1",
    "ce_type": "headrace.job.generation.v1",
    "ce_source": "/shop",
    "content-type": "application/json",
}
JOB = {"model": "echo", "prompt": "Grüße 🌾", "idempotency_key": "k"}
VALUE = json.dumps(JOB, ensure_ascii=False).encode()
STRUCTURED = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "headrace.job.generation.v1", "data": JOB}
JOB_ID = derive_job_id("default", "k")

# What is sent: value, headers, and a part of the reason; None where it is a job.
CASES = {
    "plain": (VALUE, HEADERS, None),
    "pretty, CRLF": (json.dumps(JOB, indent=2).replace("\n", "\r\n").encode() + b"\r\n", HEADERS, None),
    "least headers": (VALUE, {name: text for name, text in HEADERS.items() if name != "content-type"}, None),
    "10,000 headers": (VALUE, {**HEADERS, "many": 10_000}, None),
    "a header twice, the same": (VALUE, {**HEADERS, "ce_id": ["1", "1"]}, None),
    "a header twice, and not the same": (VALUE, {**HEADERS, "ce_id": ["1", "2"]}, "ce_id comes twice"),
    "foreign headers": (VALUE, {**HEADERS, "": "x", "traceparent": "?", "ce_sequence": "", "größe": "ü"}, None),
    "structured": (json.dumps(STRUCTURED).encode(), {"content-type": "application/cloudevents+json"}, None),
    "capitals": (VALUE, {name.upper(): text for name, text in HEADERS.items()}, "CE_SPECVERSION is another name"),
    "no headers": (VALUE, {}, "ce_specversion is missing"),
    "an empty header": (VALUE, {**HEADERS, "ce_subject": ""}, "ce_subject is empty"),
    "XML": (b"<job/>", {**HEADERS, "content-type": "application/xml"}, "content-type is 'application/xml'"),
    "a source with spaces": (VALUE, {**HEADERS, "ce_source": "my shop"}, "ce_source is no URI reference"),
    "a trace of its own": (VALUE, {**HEADERS, "ce_traceparent": "abc"}, "ce_traceparent is not 00-"),
    "a tombstone": (None, HEADERS, "no value"),
    "an empty value": (b"", HEADERS, "value: is empty"),
    "BOM": (b"\xef\xbb\xbf" + VALUE, HEADERS, "byte order mark"),
    "UTF-16": (VALUE.decode().encode("utf-16"), HEADERS, "UTF-16"),
    "Latin-1": ('{"model": "echo", "prompt": "Grüße"}'.encode("latin-1"), HEADERS, "not UTF-8"),
    "two documents": (VALUE + VALUE, HEADERS, "trailing characters at line 1 column"),
    "a text in a text": (json.dumps(VALUE.decode()).encode(), HEADERS, "must be an object, not text"),
    "half an emoji": (b'{"model": "echo", "prompt": "\\ud83c"}', HEADERS, "prompt: character 1 is half"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_odd_records(case, sent):
    """Each is a job or a refusal with its reason; none is anything else."""
    reason = CASES[case][2]
    found = accept(sent[case], RULES)
    if reason is None:
        assert isinstance(found, NewJob), found
        assert (found.id, json.loads(found.payload)["prompt"]) == (JOB_ID, JOB["prompt"])
    else:
        assert isinstance(found, Burial), found
        assert reason in found.reason


@pytest.fixture(scope="module", params=["embedded_kafka", "apache_kafka"])
def sent(request, node):
    """The records of all cases, as they are read from each broker."""
    prefix = f"odd{uuid4().hex[:8]}."
    kafka = request.getfixturevalue(request.param).settings(prefix)
    ensure_topics(kafka, partitions=1)
    messages = [
        {"key": JOB_ID, "value": None if value is None else value.decode("latin-1"), "headers": headers}
        for value, headers, _ in CASES.values()
    ]
    topic = kafka.topic(Topic.GENERATION)
    node.run(SEND, stdin=json.dumps({"broker": kafka.address, "topic": topic, "messages": messages}))
    records = [
        Record(
            topic_of(raw.topic, prefix),
            raw.partition,
            raw.offset,
            tuple(raw.headers),
            raw.value,
            raw.timestamp,
            raw.key,
        )
        for raw in read(kafka, [Topic.GENERATION])
    ]
    return dict(zip(CASES, records, strict=True))
