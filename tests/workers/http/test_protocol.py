import json
import selectors
import socket
from contextlib import suppress

import h11
import pytest
from tests.services.eventually import eventually
from tests.workers.http.served import Gateway

from headrace_workers.http import bodies as pace
from headrace_workers.http import protocol
from headrace_workers.http.protocol import in_origin_form

HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"


def connect(gateway: Gateway) -> socket.socket:
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def all_of(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    data = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            data += part
    return data


def test_who_does_not_say_what_is_wanted_is_given_up(gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    with connect(gateway) as silent, connect(gateway) as slow:
        with suppress(OSError):
            slow.sendall(HEAD)
        assert all_of(silent) == b""
        head, _, body = all_of(slow).partition(b"\r\n\r\n")
    assert head == b"" or head.startswith(b"HTTP/1.1 408 ")  # nothing, where the machine had not read its words yet
    if body:
        assert json.loads(body)["error"]["message"] == "the request's head did not come within 0.5 s"


def test_a_head_that_came_has_no_such_bound(gateway: Gateway):
    with connect(gateway) as slow:

        def bounds() -> list[bool]:
            mine = [
                connection
                for connection in set(gateway.server.server_state.connections)
                if connection.client == slow.getsockname()
            ]
            return [item._late is not None for item in mine]

        eventually(lambda: bounds() == [True])
        slow.sendall(HEAD)
        slow.sendall(b"\r\n")
        eventually(lambda: bounds() == [False])
        slow.sendall(b"{}GET /healthz HTTP/1.1\r\n")  # and the next begins
        eventually(lambda: bounds() == [True])
        slow.sendall(b"Host: x\r\nConnection: close\r\n\r\n")
        assert all_of(slow).endswith(b'{"status":"ok"}')


def drip(connection: socket.socket) -> bytes:
    """Send a byte now and then until the other side hangs up: what it said."""
    data = b""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        for _ in range(3_000):
            if selector.select(0.02):
                try:
                    part = connection.recv(65_536)
                except ConnectionResetError:
                    part = b""
                if not part:
                    return data
                data += part
            with suppress(OSError):
                connection.sendall(b"x")
    raise AssertionError("the body may drip for ever")


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches", "/v1/responses", "/v1/files"])
def test_a_body_that_drips_is_given_up(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, path: str):
    monkeypatch.setattr(pace, "GRACE_SECONDS", 0.5)
    kind, begun = "application/json", "{"
    if path == "/v1/files":
        kind, begun = "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key()}\r\nContent-Type: {kind}\r\n"
    with connect(gateway) as slow:
        slow.sendall(f"{head}Content-Length: 1000000\r\n\r\n{begun}".encode())
        told = drip(slow)
    assert told.startswith(b"HTTP/1.1 408 "), told
    assert told.count(b"HTTP/1.1") == 1
    body = json.loads(told.partition(b"\r\n\r\n")[2])
    words = body["detail"] if path == "/v1/jobs" else body["error"]["message"]
    assert words.startswith("the body came too slowly, ")
    assert "1024 bytes a second" in words


def test_the_rest_of_a_body_that_nobody_reads_may_not_drip_either(gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pace, "GRACE_SECONDS", 0.5)
    with connect(gateway) as slow:
        slow.sendall(b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert drip(slow).startswith(b"HTTP/1.1 401 ")


def test_a_request_for_a_whole_url_is_one_for_its_path(gateway: Gateway):
    """As proxies are sent (RFC 9112, 3.2.2): with what the URL asks, and the body behind it."""
    address, key = gateway.url, gateway.key()
    with connect(gateway) as connection:
        head = f"Host: other\r\nAuthorization: Bearer {key}\r\n"
        connection.sendall(f"GET {address}/v1/files?limit=1 HTTP/1.1\r\n{head}\r\n".encode())
        with connection.makefile("rb") as said:
            assert said.readline().startswith(b"HTTP/1.1 200 ")
        connection.sendall(f"GET HTTP://x/healthz HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
        assert all_of(connection).endswith(b'{"status":"ok"}')


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        (b"http://mill:8420/v1/models", b"mill:8420", b"/v1/models"),
        (b"HTTPS://mill/v1/files?limit=1", b"mill", b"/v1/files?limit=1"),
        (b"http://mill", b"mill", b"/"),
        (b"http://mill?a=b", b"mill", b"/?a=b"),
        (b"http://[::1]:80/x", b"[::1]:80", b"/x"),
        (b"/v1/models?next=http://mill/", b"other", b"/v1/models?next=http://mill/"),
        (b"ftp://mill/x", b"other", b"ftp://mill/x"),
        (b"*", b"other", b"*"),
    ],
)
def test_the_host_of_a_whole_url_counts(target: bytes, host: bytes, path: bytes):
    """Not what the header says: else who looks at the host would look at another one."""
    request = h11.Request(method="GET", headers=[("Host", "other"), ("A", "b")], target=target, http_version="1.1")
    found = in_origin_form(request)
    assert (dict(found.headers), found.target) == ({b"host": host, b"a": b"b"}, path)
