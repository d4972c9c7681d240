"""HTTP parsing: malformed requests are rejected with a specific message, where uvicorn has one for all."""

import asyncio
import json
import re
import sys
from typing import Any, Final, cast

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from headrace_workers.http.bodies import HEAD_BYTES, Pace
from headrace_workers.http.errors import Refusal, Why, openai_body

HEAD_SECONDS = 60.0  # that a client may take to send what comes before a body, from when it connected or began
_TO_READ: Final = frozenset({400, 413, 431, 501})  # what h11 hints at
_ABSOLUTE: Final = re.compile(rb"https?://([^/?#]+)([^#]*)", re.IGNORECASE)


class _Connection(h11.Connection):
    """HTTP/1.1, whose requests are for a path."""

    def next_event(self) -> Any:
        """Return the next event."""
        event = super().next_event()
        return in_origin_form(event) if isinstance(event, h11.Request) else event


def in_origin_form(request: h11.Request) -> h11.Request:
    """Return a request for a whole URL, as clients send it to proxies, as a request for its host and path (RFC 9112,
    3.2.2).
    """
    match = _ABSOLUTE.fullmatch(request.target)
    if match is None:
        return request
    host, path = match.groups()
    others = [(name, value) for name, value in request.headers if name != b"host"]
    return h11.Request(
        method=request.method,
        headers=[(b"host", host), *others],
        target=path if path.startswith(b"/") else b"/" + path,
        http_version=request.http_version,
    )


class Protocol(H11Protocol):
    """A connection.

    A request that cannot be read is refused in OpenAI's shape, since its path is not known for certain. uvicorn waits
    for ever for a client that sends nothing, or one byte at a time; here the head of a request has a time limit, and so
    has the rest of a body after its answer, which nobody reads.
    """

    _late: asyncio.TimerHandle | None = None
    _pace: Pace | None = None  # of the rest of a body
    _came_at = 0.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.conn = _Connection(h11.SERVER, HEAD_BYTES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a connection; its request must come in time."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._late = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Read what came: a whole head, or a part."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._late = self._late or self.loop.call_later(HEAD_SECONDS, self._give_up)
            return
        self._in_time()
        if self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY:
            self._wait_for_rest(len(data))
        else:
            self._pace = None

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        self._in_time()
        super().connection_lost(exc)

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _wait_for_rest(self, count: int) -> None:
        now = self.loop.time()
        if self._pace is None:
            self._pace, self._came_at = Pace(), now
        self._pace.took(now - self._came_at, count)
        self._came_at = now
        self._late = self.loop.call_later(self._pace.left, self._give_up)

    def _give_up(self) -> None:
        self._late = None
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(408, f"the request's head did not come within {HEAD_SECONDS:g} s")
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer malformed HTTP, and close the connection. Called while the error is handled."""
        error = sys.exception()
        hint = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        status = hint if hint in _TO_READ else 400
        self._refuse(status, f"the request is no HTTP that can be read: {error or msg}")

    def _refuse(self, status: int, words: str) -> None:
        body = json.dumps(openai_body(Refusal(Why.INVALID, words)))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        answer = h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status])
        for event in (answer, h11.Data(data=body.encode()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
