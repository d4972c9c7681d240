"""The exported schemas: valid themselves, and valid for what the codec writes."""

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator

from headrace_schemas import InvalidRecord
from headrace_schemas.codec import decode, decode_value
from headrace_schemas.event_types import EVENTS
from headrace_schemas.events import JobKind
from headrace_schemas.examples import EXAMPLES, example_envelope
from headrace_schemas.export import export, schema_file
from headrace_schemas.job import AnyJob
from headrace_schemas.topics import Topic


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    written = export(tmp_path_factory.mktemp("export") / "new" / "folder")
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in written}


def walk(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(child)


def resolve(document: dict[str, Any], reference: str) -> Any:
    node: Any = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_one_file_a_type(documents: dict[str, dict[str, Any]]) -> None:
    assert set(documents) == {schema_file(name) for name in EXAMPLES} | {"asyncapi.json"}
    for row in EVENTS:
        schema = documents[schema_file(row.name)]
        assert schema["$id"].endswith(row.name)
        assert schema["title"] == row.cls.__name__
        assert schema["description"].startswith(row.description)


@pytest.mark.parametrize("event_type", EXAMPLES)
def test_each_schema_is_valid(event_type: str, documents: dict[str, dict[str, Any]]) -> None:
    Draft202012Validator.check_schema(documents[schema_file(event_type)])


def test_nothing_that_only_python_understands(documents: dict[str, dict[str, Any]]) -> None:
    python_only = re.compile(r"\(\?P|\(\?[aiLmsux]+\)|\\[AZ]|\(\?#|\(\?\(|[+*?}]\+")
    for document in documents.values():
        for node in walk(document):
            assert not isinstance(node.get("discriminator"), dict)
            if isinstance(pattern := node.get("pattern"), str):
                assert not python_only.search(pattern)


def test_asyncapi_names_every_topic_and_type(documents: dict[str, dict[str, Any]]) -> None:
    document = documents["asyncapi.json"]
    assert document["asyncapi"].startswith("3.")
    channels = {channel["address"]: channel for channel in document["channels"].values()}
    assert {address: channel["description"] for address, channel in channels.items()} == {
        topic.named(): topic.description for topic in Topic
    }
    assert {message["name"] for message in document["components"]["messages"].values()} == set(EXAMPLES)
    for row in EVENTS:
        assert row.cls.__name__ in channels[row.topic.named()]["messages"]
    operated = {
        resolve(document, op["channel"]["$ref"])["address"]: op["action"] for op in document["operations"].values()
    }
    assert {address for address, action in operated.items() if action == "send"} == {
        "headrace.jobs.generation",
        "headrace.jobs.evaluation",
        "headrace.jobs.embedding",
        "headrace.jobs.moderation",
        "headrace.jobs.decision",
        "headrace.jobs.tuning",
        "headrace.jobs.cancellation",
        "headrace.reviews",
    }
    assert set(operated) == set(channels)


def test_asyncapi_has_no_dangling_reference(documents: dict[str, dict[str, Any]]) -> None:
    document = documents["asyncapi.json"]
    references = [node["$ref"] for node in walk(document) if isinstance(node.get("$ref"), str)]
    assert references
    for reference in references:
        assert resolve(document, reference)


def test_headers_fix_the_type(documents: dict[str, dict[str, Any]]) -> None:
    for message in documents["asyncapi.json"]["components"]["messages"].values():
        assert message["headers"]["properties"]["ce_type"]["const"] == message["name"]
        assert {"ce_specversion", "ce_id", "ce_type", "ce_source"} <= set(message["headers"]["required"])
        assert message["contentType"] == "application/json"


def test_each_message_has_key_correlation_and_an_example(documents: dict[str, dict[str, Any]]) -> None:
    document = documents["asyncapi.json"]
    of_no_job = {
        "PolicySwitched", "PolicyRefused", "BreakerOpened", "BreakerClosed", "BudgetReached", "ApplicationLabelled",
    }  # fmt: skip
    for title, message in document["components"]["messages"].items():
        of_job = title not in of_no_job
        assert (message["bindings"]["kafka"]["key"].get("format") == "uuid") is of_job
        assert ("correlationId" in message) is of_job
        if of_job:
            assert message["correlationId"]["location"] == "$message.header#/ce_correlationid"
        [example] = message["examples"]
        headers = [(name, text.encode()) for name, text in example["headers"].items()]
        envelope, event = decode(headers, json.dumps(example["payload"]).encode())
        assert (envelope.type, event) == (message["name"], EXAMPLES[message["name"]])
        assert bool(envelope.correlationid) is of_job
        assert envelope.subject == (envelope.partitionkey if of_job else None)
        Draft202012Validator(message["headers"]).validate(example["headers"])
        schema = documents[schema_file(message["name"])]
        assert schema["examples"] == [example["payload"]]
        assert schema["$id"] == example["headers"]["ce_dataschema"]
        Draft202012Validator(schema).validate(example["payload"])
    assert {server["protocol"] for server in document["servers"].values()} == {"kafka", "kafka-secure"}


def test_an_example_job_is_the_one_that_its_envelope_names() -> None:
    for event_type, event in EXAMPLES.items():
        if isinstance(event, AnyJob):
            assert event.job_id("") == example_envelope(event_type).subject


def test_what_a_job_may_say_is_described(documents: dict[str, dict[str, Any]]) -> None:
    for name in get_args(JobKind):
        properties = documents[schema_file(f"headrace.job.{name}.v1")]["properties"]
        assert [field for field, schema in properties.items() if not {"description", "$ref"} & set(schema)] == []


def test_a_generation_names_its_model_or_an_application(documents: dict[str, dict[str, Any]]) -> None:
    schema = documents["asyncapi.json"]["components"]["schemas"]["GenerationJob"]
    assert [way["required"] for way in schema["allOf"][1]["oneOf"]] == [["model"], ["model"], ["application"]]
    with pytest.raises(InvalidRecord, match=r"^model: is missing$"):
        decode_value("headrace.job.generation.v1", b'{"prompt": "p"}')
