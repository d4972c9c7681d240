import logging
import socket
from collections.abc import Iterable, Iterator

import httpx
import pytest
from tests.services.eventually import eventually
from tests.workers.http.served import IDLE, Gateway

from headrace_workers.runtime.settings import GatewaySettings

JOB = {"model": "echo", "prompt": "the secret of the mill"}
MINE = "req-mine"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict]]:
    """The fields of each line about a request."""
    caplog.set_level(logging.DEBUG, "headrace.gateway")
    logging.getLogger("headrace").propagate = True
    found: list[dict] = []

    class Keep(logging.Handler):
        def emit(self, record):
            found.append({"message": record.getMessage(), **getattr(record, "fields", {})})

    keep = Keep()
    logging.getLogger("headrace.gateway").addHandler(keep)
    yield found
    logging.getLogger("headrace.gateway").removeHandler(keep)


def mine(lines: list[dict], said: str = MINE) -> list[dict]:
    """The lines of requests that said this id: the lines of earlier tests' requests may come late."""
    return [line for line in lines if line.get("request_id") == said]


def raw(gateway: Gateway, head: str, body: Iterable[bytes] = ()) -> tuple[bytes, int]:
    """Send a request byte by byte, as no client does: what was answered, and how much of the body could be sent."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        sent = 0
        try:
            connection.sendall(head.encode())
            for part in body:
                connection.sendall(part)
                sent += len(part)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answered = b""
        try:
            while part := connection.recv(65_536):
                answered += part
        except ConnectionResetError:
            pass
        return answered, sent


def test_a_body_that_says_it_is_too_large_is_refused_unread(gateway: Gateway):
    head = "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n"
    answered, _ = raw(gateway, head)
    assert answered.startswith(b"HTTP/1.1 413 ")
    assert b"urn:headrace:problem:too_large" in answered


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/evaluations"])
def test_a_body_that_grows_too_large_is_refused_while_it_comes(gateway: Gateway, path: str):
    bound = gateway.settings.of(GatewaySettings).max_body
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: application/json\r\n" \
           f"Authorization: Bearer {gateway.key()}\r\n\r\n"  # fmt: skip
    part = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    answered, sent = raw(gateway, head, (part for _ in range(1_600)))
    assert answered.startswith(b"HTTP/1.1 413 "), answered[:200]
    assert sent < 4 * bound


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/evaluations", "/v1/chat/completions", "/v1/files"])
def test_who_hangs_up_in_the_middle_of_a_body_is_no_fault_of_ours(gateway: Gateway, lines: list[dict], path: str):
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nContent-Type: application/json\r\n" \
           f"Authorization: Bearer {gateway.key()}\r\nX-Request-Id: {MINE}\r\n\r\n"  # fmt: skip
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode() + b'{"prompt"')
    eventually(lambda: mine(lines))
    assert [line["message"].split()[:2] for line in mine(lines)] == [["POST", path]]


@pytest.mark.parametrize("name", ["Authorization", "Content-Type", "Idempotency-Key"])
def test_a_header_that_counts_is_given_once(gateway: Gateway, name: str):
    """Of two one would be passed over; of others, such as Accept, there may be several."""
    usual = f"Host: x\r\nAuthorization: Bearer {gateway.key()}\r\nAccept: a\r\nAccept: b\r\nConnection: close\r\n"
    told, _ = raw(gateway, f"GET /v1/files HTTP/1.1\r\n{usual}\r\n")
    assert told.startswith(b"HTTP/1.1 200 ")
    told, _ = raw(gateway, f"GET /v1/files HTTP/1.1\r\n{usual}{name}: Bearer a\r\n{name.lower()}: Bearer b\r\n\r\n")
    assert told.startswith(b"HTTP/1.1 400 ")
    assert f"the header {name} is given more than once".encode() in told


def test_headers_are_bounded(gateway: Gateway):
    answered, _ = raw(gateway, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + "x" * 200_000 + "\r\n\r\n")
    assert answered.split(b" ")[1] in (b"400", b"431")
    assert httpx.get(f"{gateway.url}/healthz", timeout=60).status_code == 200


def test_a_request_has_an_id(client: httpx.Client):
    """The client's own, where it can stand in a log; else a new one."""
    assert client.get("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    for odd in ("a b", "x" * 65, "a\tb", "ä"):
        told = client.get("/healthz", headers={"x-request-id": odd.encode()}).headers["x-request-id"]
        assert told.startswith("req_")


def test_the_log_tells_who_asked_for_what_and_nothing_that_was_said(gateway: Gateway, lines: list[dict]):
    key = gateway.key("shop")
    with gateway.client(key, headers={"x-request-id": MINE}) as client:
        job_id = client.post("/v1/jobs", json=JOB).json()["id"]
        client.get(f"/v1/jobs/{job_id}?secret=of-the-mill")
        client.get("/nowhere/the-secret-of-the-mill")
    eventually(lambda: len(mine(lines)) >= 3)
    told = mine(lines)
    assert [line["message"] for line in told] == [
        "POST /v1/jobs 202", "GET /v1/jobs/{job_id} 400", "GET - 404",
    ]  # fmt: skip
    assert {line["tenant"] for line in told[:2]} == {"shop"}
    assert {line["key"] for line in told[:2]} == {key.split("_")[1]}
    assert told[0]["received"] > 0
    assert not any("mill" in str(line) or key in str(line) for line in lines)


def test_an_error_of_our_own_tells_nothing_and_is_told_in_the_log(
    gateway: Gateway, lines: list[dict], monkeypatch: pytest.MonkeyPatch
):
    async def broken(*_args, **_kwargs):
        raise RuntimeError("the secret of the mill")

    monkeypatch.setattr(gateway.services.admission, "submit", broken)
    with gateway.client() as client:
        told = client.post("/v1/jobs", json=JOB)
    assert (told.status_code, told.json()["type"]) == (500, "urn:headrace:problem:internal")
    assert "mill" not in told.text
    (line,) = eventually(lambda: [line for line in lines if line["message"].startswith("RuntimeError")])
    assert line["request_id"] == told.headers["x-request-id"]
    assert "mill" not in str(lines)


def head(gateway: Gateway, path: str, key: str) -> tuple[int, dict[str, str], bytes]:
    """What is answered to HEAD: status, headers, and what comes behind them."""
    answered, _ = raw(
        gateway, f"HEAD {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    )
    first, _, behind = answered.partition(b"\r\n\r\n")
    status, *lines = first.decode().split("\r\n")
    found = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), found, behind


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/models", "/v1/models/echo", "/openapi.json", "/v1/nothing"])
def test_head_is_answered_as_get_without_a_body(gateway: Gateway, path: str):
    key = gateway.key()
    asked = httpx.get(f"{gateway.url}{path}", headers={"authorization": f"Bearer {key}"}, timeout=60)
    status, headers, behind = head(gateway, path, key)
    assert (status, behind) == (asked.status_code, b"")
    assert {"content-type", "content-length", "x-request-id"} <= headers.keys()
    assert headers["content-type"] == asked.headers["content-type"]
    if status == 200:  # an error tells the request's id
        assert int(headers["content-length"]) == len(asked.content)


def test_head_of_a_job_and_of_its_events(gateway: Gateway, client: httpx.Client, lines: list[dict]):
    job_id = client.post("/v1/jobs", json={**JOB, "model": IDLE}).json()["id"]
    key = gateway.key()
    assert head(gateway, f"/v1/jobs/{job_id}", key)[::2] == (200, b"")
    status, headers, behind = head(gateway, f"/v1/jobs/{job_id}/events", key)
    assert (status, headers["content-type"], behind) == (200, "text/event-stream; charset=utf-8", b"")
    assert head(gateway, f"/v1/jobs/{job_id}", gateway.key("another"))[::2] == (404, b"")
    assert head(gateway, f"/v1/jobs/{job_id}", "nobody's")[::2] == (401, b"")
    asked = client.head("/v1/models", headers={"x-request-id": "req-head"})
    assert (asked.status_code, asked.content) == (200, b"")
    assert client.get("/v1/models").status_code == 200  # on the same connection
    (line,) = eventually(lambda: mine(lines, "req-head"))
    assert (line["message"], line["sent"]) == ("HEAD /v1/models 200", 0)
    client.delete(f"/v1/jobs/{job_id}")


def test_head_of_what_can_only_be_sent(client: httpx.Client):
    for path in ("/v1/jobs", "/v1/chat/completions", "/v1/embeddings"):
        assert client.head(path).status_code == client.get(path).status_code == 405
