import httpx
import pytest


def test_our_own_paths_speak_of_problems(client: httpx.Client):
    """RFC 9457, also for what no route takes."""
    told = client.put("/v1/jobs", json={})
    assert (told.status_code, told.headers["content-type"]) == (405, "application/problem+json")
    assert told.headers["allow"] == "POST"
    assert told.json()["type"] == "urn:headrace:problem:method_not_allowed"


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/jobsx", "/chat/completions", "/v1/v1/models"])
def test_openai_s_paths_speak_as_openai_does(client: httpx.Client, path: str):
    told = client.get(path)
    assert (told.status_code, told.headers["content-type"]) == (404, "application/json")
    assert told.json()["error"]["code"] == "not_found"
    assert told.json()["error"]["type"] == "invalid_request_error"
    assert "the base URL of OpenAI's clients ends in /v1" in told.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/images/generations", "/audio/speech", "/v1/assistants", "/v1/live/sessions"])
def test_resources_that_are_not_supported_say_so(client: httpx.Client, path: str):
    error = client.post(path, json={}).json()["error"]
    assert error["code"] == "unsupported_resource"
    assert error["message"].startswith("headrace does not support OpenAI's ")
    assert "base URL" not in error["message"]


_MISSING, _UNKNOWN, _WRONG = "missing_required_parameter", "unknown_parameter", "invalid_value"
_BATCH = {"input_file_id": "file-none", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
_UPLOAD = {"bytes": 1, "filename": "a.jsonl", "mime_type": "text/plain", "purpose": "batch"}
_HOOK = {"url": "https://shop.example/hooks", "name": "a", "event_types": ["batch.completed"]}


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("/v1/vector_stores", {"name": 1}, _WRONG, "name"),
        ("/v1/vector_stores", {"colour": "red"}, _UNKNOWN, "colour"),
        ("/v1/vector_stores", {"expires_after": {"anchor": "last_active_at"}}, _MISSING, "expires_after.days"),
        ("/v1/vector_stores", {"file_ids": ["file-none"]}, "not_found", "file_id"),
        ("/v1/vector_stores/none/search", {"query": "a"}, "not_found", "vector_store_id"),
        ("/v1/vector_stores/none/files", {"file_id": "a"}, "not_found", "vector_store_id"),
        ("/v1/uploads", {**_UPLOAD, "bytes": 0}, _WRONG, "bytes"),
        ("/v1/uploads", {**_UPLOAD, "purpose": "fun"}, _WRONG, "purpose"),
        ("/v1/uploads", {"bytes": 1}, _MISSING, "filename"),
        ("/v1/uploads", {**_UPLOAD, "colour": "red"}, _UNKNOWN, "colour"),
        ("/v1/uploads/none/complete", {"part_ids": []}, "not_found", "upload_id"),
        ("/v1/batches", _BATCH, "not_found", "input_file_id"),
        ("/v1/batches", {**_BATCH, "endpoint": "/v1/images"}, _WRONG, "endpoint"),
        ("/v1/batches", {**_BATCH, "completion_window": "soon"}, _WRONG, "completion_window"),
        ("/v1/batches", {**_BATCH, "metadata": {"": "a"}}, _WRONG, "metadata"),
        ("/v1/batches/none/cancel", {}, "not_found", "batch_id"),
        ("/v1/webhook_endpoints", {**_HOOK, "event_types": ["a.b"]}, _WRONG, "event_types"),
        ("/v1/webhook_endpoints", {"name": "a", "event_types": ["batch.completed"]}, _MISSING, "url"),
        ("/v1/webhook_endpoints", {**_HOOK, "url": "ftp://shop.example"}, _WRONG, "url"),
        ("/v1/webhook_endpoints/none/test", {"event_type": "batch.completed"}, "not_found", "webhook_endpoint_id"),
        ("/v1/embeddings", {"input": "a"}, _MISSING, "model"),
        ("/v1/embeddings", {"model": "no-such", "input": "a"}, "model_not_found", "model"),
        ("/v1/evals", {"name": "a"}, _MISSING, "data_source_config"),
        ("/v1/evals/none/runs", {}, _MISSING, "data_source"),
        ("/v1/chat/completions", {"model": "echo", "messages": "a"}, _WRONG, "messages"),
    ],
)
def test_a_refusal_names_the_parameter_with_openai_s_code(client, path, body, code, param):
    error = client.post(path, json=body).json()["error"]
    assert (error["code"], error["param"]) == (code, param), error


def test_parameters_of_a_url_and_of_a_form_are_named_too(client):
    for told, param, code in (
        (client.get("/v1/files?limit=0"), "limit", _WRONG),
        (client.get("/v1/batches?after=none"), "after", "not_found"),
        (client.get("/v1/vector_stores?before=a"), "before", _WRONG),
        (client.post("/v1/files", files={"file": b"a"}), "purpose", _MISSING),
        (client.post("/v1/files", files={"file": b"a"}, data={"purpose": "batch", "x": "1"}), "x", _UNKNOWN),
    ):
        error = told.json()["error"]
        assert (error["param"], error["code"]) == (param, code), error
