"""`Idempotency-Key` works, or is refused by name, since its sender relies on it."""

import httpx
import pytest
from tests.workers.http.served import Gateway, described, told_unread

JOB = {"model": "echo", "prompt": "Name three rivers."}
KNOW_IT = {
    "/v1/jobs": JOB,
    "/v1/evaluations": {"input": "Name three rivers.", "output": "Oder", "criteria": [{"criterion": "json_valid"}]},
    "/v1/chat/completions": {"model": "echo", "messages": [{"role": "user", "content": "Name three rivers."}]},
    "/v1/completions": JOB,
    "/v1/responses": {"model": "echo", "input": "Name three rivers."},
    "/v1/embeddings": {"model": "hash", "input": "Name three rivers."},
    "/v1/moderations": {"input": "Name three rivers."},
    "/v1/decisions": {"model": "echo", "input": "a", "questions": [{"type": "predicate", "instructions": "b"}]},
    "/v1/fine_tuning/jobs": {"model": "echo", "training_file": "file-1"},
    "/v1/batches": {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
}


def posts(gateway: Gateway) -> dict[str, dict]:
    """The paths that take POST, with what the description says of each."""
    paths = described(gateway)["paths"]
    return {path: operations["post"] for path, operations in paths.items() if "post" in operations}


def test_the_description_names_the_routes_that_know_it(gateway: Gateway):
    told = {
        path
        for path, operation in posts(gateway).items()
        if "Idempotency-Key" in [parameter["name"] for parameter in operation.get("parameters", ())]
    }
    assert told == set(KNOW_IT)


@pytest.mark.parametrize("path", KNOW_IT)
def test_those_read_it(client: httpx.Client, path: str):
    """One that is too long is told so."""
    told = client.post(path, json=KNOW_IT[path], headers={"Idempotency-Key": "k" * 257})
    assert (told.status_code, "Idempotency-Key" in told.text) == (400, True), told.text


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_every_other_route_refuses_it(gateway: Gateway, kind: str):
    deaf = posts(gateway).keys() - KNOW_IT.keys()
    assert {"/v1/files", "/v1/uploads", "/v1/evals", "/v1/vector_stores", "/v1/webhook_endpoints", "/v1/labels"} < deaf
    key = f"Authorization: Bearer {gateway.key()}"
    for path in deaf:
        told = told_unread(gateway, path, key, "Idempotency-Key: order-17", f"Content-Type: {kind}")
        assert told.startswith(b"HTTP/1.1 400 "), (path, told)
        assert f"Idempotency-Key: POST {path} does not support it".encode() in told, (path, told)


def test_what_changes_nothing_when_sent_twice_takes_any_key(client: httpx.Client):
    headers = {"Idempotency-Key": "order-17"}
    assert client.get("/v1/files", headers=headers).status_code == 200
    assert client.delete("/v1/files/file-1", headers=headers).status_code == 404
