"""Formats and tools over HTTP: hostile bodies, reused keys, jobs, and lines of batches."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.services.eventually import eventually
from tests.workers.http.scripted import TICKET, scripted
from tests.workers.http.served import IDLE, Gateway

SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "urgency": {"type": "integer"}},
    "required": ["title", "urgency"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with scripted(gateway) as key, gateway.client(key) as found:
        yield found


def chat(schema: Any, text: str = "Go.") -> dict[str, Any]:
    output = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": schema}}
    return {"model": IDLE, "messages": [{"role": "user", "content": text}], "response_format": output}


def response(schema: Any) -> dict[str, Any]:
    output = {"type": "json_schema", "name": "ticket", "schema": schema}
    return {"model": IDLE, "input": "Go.", "text": {"format": output}}


def tools(schema: Any) -> dict[str, Any]:
    """A chat completion that must call a function with arguments of a schema."""
    tool = {"type": "function", "function": {"name": "file", "parameters": schema}}
    return {
        "model": IDLE, "messages": [{"role": "user", "content": "Go."}], "tools": [tool], "tool_choice": "required"
    }  # fmt: skip


def test_a_format_that_nothing_satisfies_is_refused_beside_tools(client: httpx.Client):
    """The error names the format, and not the tools that are compiled with it."""
    body = tools(SCHEMA) | chat({**SCHEMA, "properties": {"urgency": {"type": "integer", "minimum": 5, "maximum": 4}}})
    answer = client.post("/v1/chat/completions", json={**body, "tool_choice": "auto"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "response_format.json_schema.schema"
    assert "required property 'urgency' is unsatisfiable" in error["message"]


def line(custom_id: str, body: dict[str, Any]) -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body})


def run_batch(client: httpx.Client, url: str, lines: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run a batch to its end, and return its lines with an answer and those without, by `custom_id`."""
    sent = client.post("/v1/files", files={"file": ("x.jsonl", "\n".join(lines))}, data={"purpose": "batch"})
    asked = {"input_file_id": sent.json()["id"], "endpoint": url, "completion_window": "24h"}
    batch = client.post("/v1/batches", json=asked).json()["id"]

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = client.get(f"/v1/batches/{batch}").json()
        return found if found["status"] not in ("validating", "in_progress", "finalizing") else None

    found = eventually(ended)
    assert found is not None
    read = []
    for name in (found["output_file_id"], found["error_file_id"]):
        rows = client.get(f"/v1/files/{name}/content").text.splitlines() if name else []
        read.append({row["custom_id"]: row for row in map(json.loads, rows)})
    return read[0], read[1]


def test_lines_of_a_batch_have_formats(client: httpx.Client):
    """A line is answered in its format or stands in the error file, and none is taken for whole that was cut."""
    bad = chat({"type": "object"})
    bad["response_format"]["json_schema"]["name"] = "a b"
    lines = [
        line("good", chat(SCHEMA)),
        line("called", tools(SCHEMA)),
        line("cut", chat(SCHEMA, "truncated")),
        line("odd", chat(SCHEMA, "unparsable")),
        line("bad", bad),
    ]
    answers, errors = run_batch(client, "/v1/chat/completions", lines)
    assert answers.keys() == {"good", "called"}
    bodies = {name: row["response"]["body"]["choices"][0] for name, row in answers.items()}
    assert json.loads(bodies["good"]["message"]["content"]) == TICKET
    (call,) = bodies["called"]["message"]["tool_calls"]
    assert (bodies["called"]["finish_reason"], json.loads(call["function"]["arguments"])) == ("tool_calls", TICKET)
    for name, failure in (("cut", "truncated"), ("odd", "unparsable")):
        told = errors[name]["response"]
        assert (told["status_code"], told["body"]["error"]["code"]) == (422, failure)
    assert errors["bad"]["error"]["param"] == "body.response_format.json_schema.name"
