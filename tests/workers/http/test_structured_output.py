"""Formats and tools over HTTP: hostile bodies, reused keys, jobs, and lines of batches."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select
from tests.services.eventually import eventually
from tests.workers.http.scripted import TICKET, scripted
from tests.workers.http.served import IDLE, Gateway

from headrace_workers.core.tables import JOBS

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


def job(schema: Any) -> dict[str, Any]:
    return {"model": IDLE, "prompt": "Go.", "output": {"type": "json_schema", "json_schema": schema}}


BODIES = [
    ("/v1/chat/completions", chat),
    ("/v1/chat/completions", tools),
    ("/v1/responses", response),
    ("/v1/jobs", job),
]


def test_a_format_that_nothing_satisfies_is_refused_beside_tools(client: httpx.Client):
    """The error names the format, and not the tools that are compiled with it."""
    body = tools(SCHEMA) | chat({**SCHEMA, "properties": {"urgency": {"type": "integer", "minimum": 5, "maximum": 4}}})
    answer = client.post("/v1/chat/completions", json={**body, "tool_choice": "auto"})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == "response_format.json_schema.schema/properties/urgency"
    assert "minimum (5) is greater than maximum (4)" in error["message"]


@pytest.mark.parametrize(("path", "body"), BODIES)
@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ('{"not": ' * 1_000 + "true" + "}" * 1_000, "nested too deeply"),
        ('{"type": "object", "type": "array"}', "'type' is named twice"),
        ('{"maximum": NaN}', "NaN and Infinity are not JSON"),
        ('{"maximum": 1e999}', "larger than any number can be"),
        ('{"title": "\\ud800"}', "surrogate"),
    ],
    ids=["deep", "twice", "nan", "infinite", "surrogate"],
)
def test_a_schema_that_is_no_sound_json_is_refused(client: httpx.Client, path: str, body: Any, schema: str, words: str):
    """Status 400 with the reason, before a job is made, and the gateway goes on."""
    content = json.dumps(body("SCHEMA")).replace('"SCHEMA"', schema)
    answer = client.post(path, content=content)
    assert answer.status_code == 400, answer.text
    assert words in answer.text


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_a_schema_of_many_megabytes_is_refused(client: httpx.Client, path: str, body: Any):
    """The bound on bodies holds for schemas, too."""
    schema = {"enum": ["x" * 1_000 + str(n) for n in range(5_000)]}
    answer = client.post(path, json=body(schema))
    assert answer.status_code == 400, answer.text[:1_000]
    limit = "more than the 1000000 that are taken" if path == "/v1/jobs" else "; the limit is 262144"
    assert limit in answer.text.replace("262,144", "262144"), answer.text[:1_000]


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_a_key_belongs_to_one_schema(client: httpx.Client, path: str, body: Any):
    """The same schema gives the same job, and another schema gives status 409."""
    headers = {"Idempotency-Key": str(uuid4())}
    first, again = (client.post(path, json=body(SCHEMA), headers=headers) for _ in range(2))
    assert first.status_code == again.status_code
    assert first.json()["id"] == again.json()["id"]
    refused = client.post(path, json=body({**SCHEMA, "required": []}), headers=headers)
    assert refused.status_code == 409, refused.text


def test_a_key_is_its_tenant_s_own(gateway: Gateway, client: httpx.Client):
    """Two tenants send the same key with other schemas: each has a job of its own, with its own schema."""
    headers = {"Idempotency-Key": str(uuid4())}
    with gateway.client(gateway.key("neighbour")) as neighbour:
        ids = [
            one.post("/v1/jobs", json=job({**SCHEMA, "title": name}), headers=headers).json()["id"]
            for one, name in ((client, "mine"), (neighbour, "theirs"))
        ]
        assert ids[0] != ids[1]
        for one, found, other in ((client, *ids), (neighbour, *reversed(ids))):
            assert one.get(f"/v1/jobs/{found}").status_code == 200
            assert one.get(f"/v1/jobs/{other}").status_code == 404
    assert [_schema_of(gateway, each)["title"] for each in ids] == ["mine", "theirs"]


def _schema_of(gateway: Gateway, job_id: str) -> dict[str, Any]:
    """Return the schema of a job in the ledger, once it is there."""
    query = select(JOBS.c.payload).where(JOBS.c.id == job_id)

    def payload() -> bytes | None:
        with gateway.services.ledger.engine.connect() as connection:
            return connection.execute(query).scalar()

    found: dict[str, Any] = json.loads(eventually(payload) or b"{}")["output"]["json_schema"]
    return found


def test_many_new_schemas_at_once_hold_nobody_up(gateway: Gateway, client: httpx.Client):
    """Each request is taken or told when to come again, and others are answered."""

    def ask(number: int) -> httpx.Response:
        return client.post("/v1/jobs", json=job({**SCHEMA, "title": f"new {number} {uuid4()}"}))

    go = {"model": IDLE, "prompt": "Go."}
    with ThreadPoolExecutor(16) as pool, gateway.client(gateway.key("neighbour")) as neighbour:
        asked = [pool.submit(ask, number) for number in range(16)]
        others = [neighbour.post("/v1/jobs", json=go).status_code]
        while not all(each.done() for each in asked):
            others.append(neighbour.post("/v1/jobs", json=go).status_code)
    answers = [each.result() for each in asked]
    assert set(others) == {202}
    assert all(each.status_code == 202 or each.headers["retry-after"] for each in answers)
    assert {each.status_code for each in answers} <= {202, 429, 503}


def test_a_job_says_its_format(client: httpx.Client):
    """A job of each format is admitted, and an error has the path of what is wrong."""
    formats = [
        {"type": "json_schema", "json_schema": SCHEMA, "name": "ticket", "in_prompt": False},
        {"type": "json_object"},
        {"type": "choice", "choices": ["yes", "no"]},
        {"type": "regex", "pattern": "[a-z]+"},
        {"type": "grammar", "grammar": 'start: "a"'},
    ]
    for output in formats:
        assert client.post("/v1/jobs", json={**job(SCHEMA), "output": output}).status_code == 202
    for change, param in (
        ({"output": {"type": "xml"}}, "output.type"),
        ({"output": {"type": "json_schema", "json_schema": []}}, "output.json_schema"),
        ({"output": {"type": "choice", "choices": ["a", ""]}}, "output.choices.1"),
        ({"tools": [{"name": "a b"}]}, "tools.0.name"),
    ):
        answer = client.post("/v1/jobs", json={**job(SCHEMA), **change})
        assert (answer.status_code, answer.json()["detail"].split(":")[0]) == (400, param), answer.text


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


def test_lines_of_jobs_have_formats(client: httpx.Client):
    """A line that is a job says its format as a job does, and a line with a wrong one is refused by its path."""
    jobs = [{**job(SCHEMA), "idempotency_key": "good"}, {**job([]), "idempotency_key": "bad"}]
    answers, errors = run_batch(client, "/v1/jobs", [json.dumps(each) for each in jobs])
    assert json.loads(answers["good"]["answer"]["text"]) == TICKET
    assert errors["bad"]["error"]["message"].startswith("output.json_schema: must be an object")
