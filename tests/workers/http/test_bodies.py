"""Bodies that cannot be read: each is refused with what is wrong with it, and what to do."""

import gzip
import json

import httpx
import pytest
from tests.workers.http.served import Gateway
from tests.workers.http.test_entry import raw

CHAT = b'{"model": "echo", "messages": [{"role": "user", "content": "hi"}]}'
FEW = b'{"input_file_id": "file-1", "endpoint": "/v1/jobs", "completion_window": "24h"}'


def told(answer: httpx.Response) -> str:
    assert answer.json()["error"]["type"] == "invalid_request_error"
    return str(answer.json()["error"]["message"])


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/batches", "/v1/files", "/v1/no/such/thing"])
@pytest.mark.parametrize("encoding", ["gzip", "BR", "identity, gzip"])
def test_a_body_that_is_encoded_is_refused_by_its_header(gateway: Gateway, path: str, encoding: str):
    with gateway.client() as client:
        answer = client.post(path, content=gzip.compress(CHAT), headers={"content-encoding": encoding})
    assert answer.status_code == 415
    assert answer.json()["error"]["code"] == "unsupported_media_type"
    assert f"Content-Encoding: {encoding.lower()}" in told(answer)
    assert "leave the header out" in told(answer)
    assert answer.headers["accept-encoding"] == "identity"


def test_an_encoding_is_told_in_our_own_shape_on_our_own_paths(gateway: Gateway):
    with gateway.client() as client:
        answer = client.post("/v1/jobs", content=CHAT, headers={"content-encoding": "zstd"})
        assert (answer.status_code, answer.json()["type"]) == (415, "urn:headrace:problem:unsupported_media_type")
        plain = {"content-encoding": "identity"}
        assert client.post("/v1/jobs", json={"model": "echo", "prompt": "a"}, headers=plain).status_code == 202


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/batches"])
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the body is empty"),
        (b"{", "the body is not JSON: EOF while parsing an object"),
        (gzip.compress(CHAT, mtime=0), "the body is compressed with gzip: send it uncompressed"),
        (b'{"model": NaN}', "the body is not JSON: NaN and Infinity are not JSON, send a number or null"),
        (b'{"model": -1e999}', "the body cannot be read: -1e999 is larger than any number can be here"),
        (b'{"model": {"a": 1, "b": 2, "a": 1}}', "'a' is named twice"),
        (b"[" * 1_000, "is nested too deeply"),
        (b'{"model": "\\ud800"}', "model: character 1 is half of a surrogate pair"),
        (b"[]", "the body must be a JSON object"),
    ],
)
def test_what_is_no_document_is_told_in_the_same_words_everywhere(gateway: Gateway, path: str, body: bytes, words: str):
    with gateway.client() as client:
        for kind in ("application/json", "application/json; charset=utf-16", "text/plain"):
            answer = client.post(path, content=body, headers={"content-type": kind})
            assert answer.status_code == 400
            assert words in told(answer)


@pytest.mark.parametrize(
    ("headers", "status", "words"),
    [
        ("Transfer-Encoding: gzip, chunked", 501, "Transfer-Encoding"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 2", 400, "Transfer-Encoding and Content-Length: send one"),
        ("Content-Length: 2\r\nContent-Length: 3", 400, "Content-Length"),
        ("Content-Length: -2", 400, "Content-Length"),
        ("Content-Length: 2\r\nBad header", 400, "the request is no HTTP"),
    ],
)
def test_a_request_that_does_not_say_how_long_it_is_is_refused(gateway: Gateway, headers: str, status: int, words: str):
    """In OpenAI's shape, and the connection is closed: what follows could be anybody's."""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key()}\r\n{headers}\r\n\r\n"
    )
    answered, _ = raw(gateway, head, [b"0\r\n\r\n"])
    start, _, body = answered.partition(b"\r\n\r\n")
    assert start.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"connection: close" in start.lower()
    assert words in json.loads(body)["error"]["message"]


def test_who_waits_for_a_word_before_the_body_gets_it(gateway: Gateway):
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key()}\r\n" \
           "Expect: 100-continue\r\nConnection: close\r\n"  # fmt: skip
    answered, _ = raw(gateway, f"{head}Content-Length: 1\r\n\r\n", [b"{"])
    assert answered.startswith(b"HTTP/1.1 100 ")
    assert b"HTTP/1.1 400 " in answered
    answered, _ = raw(gateway, f"{head}Content-Length: {2**40}\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 413 ")
    answered, _ = raw(gateway, f"{head}Content-Encoding: gzip\r\nContent-Length: 9\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 415 ")


def test_what_is_not_here_says_where_it_is_told_what_is(gateway: Gateway):
    with gateway.client() as client:
        for method, path, status in (("GET", "/v1/audio/speech", 404), ("PUT", "/v1/models/echo", 405)):
            answer = client.request(method, path)
            assert answer.status_code == status
            assert "GET /openapi.json tells what" in told(answer)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/evals", {}, "body.data_source_config: is missing; body.testing_criteria: is missing"),
        (
            "/v1/evals",
            {"data_source_config": {}, "testing_criteria": []},
            "body.testing_criteria: at least 1 of testing_criteria",
        ),
        ("/v1/batches", {**json.loads(FEW), "input_file_id": 7}, "body.input_file_id: must be text, not a number"),
        ("/v1/evals?limit=0", None, "query.limit: must be at least 1"),
        ("/v1/evals?limit=few", None, "query.limit: must be a whole number, not text"),
    ],
)
def test_what_a_field_must_be_is_told_in_the_words_of_the_contract(gateway: Gateway, path: str, body, words: str):
    with gateway.client() as client:
        answer = client.get(path) if body is None else client.post(path, json=body)
    assert answer.status_code == 400
    assert words in told(answer)
