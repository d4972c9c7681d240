"""Connections on which a request does not come."""

import json
import socket
from contextlib import suppress

import pytest
from tests.services.eventually import eventually
from tests.workers.gateway.served import Gateway

from headrace_workers.gateway import protocol

HEAD = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"


def connect(gateway: Gateway) -> socket.socket:
    """A connection on which nothing was said yet."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def all_of(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    found = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            found += part
    return found


def test_who_does_not_say_what_is_wanted_is_given_up(gateway: Gateway, monkeypatch: pytest.MonkeyPatch):
    """A head that stops half-way is answered 408; who has said nothing is hung up on."""
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
    """What comes behind it may take longer; and so may what is done for it."""
    with connect(gateway) as slow:

        def bounds() -> list[bool]:
            mine = [each for each in set(gateway.server.server_state.connections) if each.client == slow.getsockname()]
            return [each._late is not None for each in mine]

        eventually(lambda: bounds() == [True])
        slow.sendall(HEAD)
        slow.sendall(b"\r\n")
        eventually(lambda: bounds() == [False])
        slow.sendall(b"{}GET /healthz HTTP/1.1\r\n")  # and the next begins
        eventually(lambda: bounds() == [True])
        slow.sendall(b"Host: x\r\nConnection: close\r\n\r\n")
        assert all_of(slow).endswith(b'{"status":"ok"}')
