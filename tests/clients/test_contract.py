"""The contract in the hands of JavaScript: ajv, AsyncAPI's parser, and the SDK of CloudEvents."""

import base64
import json
from functools import cache
from itertools import islice
from typing import Any

import pytest
from tests.schemas.documents import neighbours
from tests.schemas.test_agreement import BEYOND_SCHEMAS, refusal

from headrace_schemas import InvalidRecord
from headrace_schemas.codec import decode, encode_value
from headrace_schemas.examples import EXAMPLES
from headrace_schemas.export import ASYNCAPI_FILE, documents, schema_file


@cache
def published() -> dict[str, Any]:
    """The documents by file; here, since each process of a run imports this module."""
    return dict(documents())


AJV = """
import Ajv2020 from "ajv/dist/2020.js";
import formats from "ajv-formats";
import { readFileSync } from "node:fs";
const ajv = new Ajv2020({ strict: true });
formats(ajv);
const { schemas, values } = JSON.parse(readFileSync(0, "utf8"));
const taken = {};
for (const [name, schema] of Object.entries(schemas)) {
  const validate = ajv.compile(schema);
  taken[name] = values[name].map((text) => validate(JSON.parse(text)));
}
console.log(JSON.stringify(taken));
"""

PARSER = """
import { Parser } from "@asyncapi/parser";
import { readFileSync } from "node:fs";
const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const messages = document?.messages().all() ?? [];
console.log(JSON.stringify({
  problems: diagnostics.filter((found) => found.severity < 2).map((found) => [found.path.join("."), found.message]),
  examples: messages.map((message) => [message.name(), message.examples().length, message.hasCorrelationId()]),
}));
"""

SDK = """
import { CloudEvent, Kafka } from "cloudevents";
const event = new CloudEvent({
  id: "1", source: "/shop", type: "headrace.job.generation.v1", subject: "s", correlationid: "order-4711",
  datacontenttype: "application/json", partitionkey: "k", data: { model: "m", prompt: "Grüße, 世界" },
});
for (const message of [Kafka.binary(event), Kafka.structured(event)]) {
  const value = typeof message.value === "string" ? message.value : JSON.stringify(message.value);
  console.log(JSON.stringify({ headers: message.headers, value: Buffer.from(value).toString("base64") }));
}
"""


def test_ajv_says_what_the_service_says(node):
    texts = {}
    for event_type in EXAMPLES:
        found = [json.loads(encode_value(EXAMPLES[event_type]))]
        found += islice(neighbours(found[0]), 0, None, 23)
        texts[event_type] = [json.dumps(item) for item in found]
    schemas = {event_type: published()[schema_file(event_type)] for event_type in EXAMPLES}
    taken = json.loads(node.run(AJV, stdin=json.dumps({"schemas": schemas, "values": texts})))
    for event_type, verdicts in taken.items():
        assert verdicts[0]
        for text, verdict in zip(texts[event_type], verdicts, strict=True):
            reason = refusal(event_type, json.loads(text))
            if reason is None or not any(words in reason for words in BEYOND_SCHEMAS):
                assert verdict == (reason is None), f"the service: {reason}; ajv: {verdict} {text}"


def test_the_asyncapi_document_is_valid(node):
    told = json.loads(node.run(PARSER, stdin=json.dumps(published()[ASYNCAPI_FILE])))
    assert told["problems"] == []
    assert sorted(told["examples"]) == sorted(
        [
            event_type,
            1,
            not event_type.startswith(
                ("headrace.application.", "headrace.policy.", "headrace.breaker.", "headrace.budget.")
            ),
        ]
        for event_type in EXAMPLES
    )


def test_the_sdk_of_cloudevents_is_read_in_both_modes(node):
    for line in node.run(SDK).splitlines():
        message = json.loads(line)
        headers = [(name, str(text).encode()) for name, text in message["headers"].items()]
        envelope, event = decode(headers, base64.b64decode(message["value"]))
        assert (envelope.id, envelope.correlationid, envelope.subject) == ("1", "order-4711", "s")
        assert event.prompt == "Grüße, 世界"
        with pytest.raises(InvalidRecord, match="prompt: must be text"):
            decode(headers, base64.b64decode(message["value"]).replace('"Grüße, 世界"'.encode(), b"5"))
