"""Around every request: its id, the bounds of its body, its line in the log, and no error that gets out unshaped.

HEAD is answered as GET would be, without a body (RFC 9110, 9.3.2).
"""

import asyncio
import logging
import re
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace_workers.core.log import Action, log
from headrace_workers.http import bodies as paces
from headrace_workers.http.bodies import Pace, body_bound
from headrace_workers.http.errors import Refusal, Why, internal_error, response_of

_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PLAIN: Final = frozenset({"", "identity"})  # no encoding
_LONGEST: Final = 64  # characters of another encoding that errors show
_ONCE: Final = frozenset({b"authorization", b"content-type", b"idempotency-key"})  # of two of them one would be ignored
_HEAD: Final = "HEAD"
_UNREAD: Final = frozenset({Why.TOO_LARGE.status, Why.TOO_SLOW.status})
_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})  # are asked for every few seconds


@dataclass(slots=True)
class RequestLog:
    """One request, as the log tells of it: nothing that it says, and no secret. `scope["headrace"]` of its scope."""

    request_id: str
    method: str
    began: float = field(default_factory=time.monotonic)
    tenant: str = "-"
    key_id: str = "-"
    status: int = 0
    received: int = 0  # bytes of the body
    sent: int = 0
    why: str | None = None  # the reason of a refusal
    seconds: float = 0.0  # that it took, once it has ended

    def refused(self, why: str) -> None:
        """Note the reason for which the request was refused; the first is reported."""
        self.why = self.why or why

    def end(self) -> None:
        """Note that the request has ended."""
        self.seconds = time.monotonic() - self.began


class _Unread(Exception):
    """The rest of the body is not read, and that was answered."""


class OutermostLayer:
    """The outermost layer of the application. It calls `on_end` with each finished request and its route's path."""

    def __init__(self, app: ASGIApp, *, max_body: int, on_end: Callable[[RequestLog, str], object]) -> None:
        self._app = app
        self._max_body = max_body
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = scope["headrace"] = RequestLog(_request_id(scope), scope["method"])
        if visit.method == _HEAD:
            scope = {**scope, "method": "GET"}
        try:
            await self._serve(scope, receive, send, visit)
        finally:
            visit.end()
            # Others whose answers are ready go first: line and figures take a fifth of what an answer does.
            asyncio.get_running_loop().call_soon(self._tell, scope, visit)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, visit: RequestLog) -> None:
        path = scope["path"]
        bound, pace, whole = body_bound(path, self._max_body), Pace(), False

        async def counted() -> Message:
            nonlocal whole
            if whole:
                return await receive()
            began = time.monotonic()
            try:
                async with asyncio.timeout(pace.left):
                    message = await receive()
            except TimeoutError:
                await self._refuse(_too_slow(visit.received), scope, receive, answer, visit)
                raise _Unread from None
            if message["type"] == "http.request":
                count = len(message.get("body", b""))
                visit.received += count
                if visit.received > bound:
                    await self._refuse(_too_large(bound), scope, receive, answer, visit)
                    raise _Unread
                pace.took(time.monotonic() - began, count)
                whole = not message.get("more_body", False)
            return message

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                if visit.status:
                    return  # the refusal was sent meanwhile
                visit.status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", visit.request_id.encode())]
                message = {**message, "headers": headers}
            elif message["type"] == "http.response.body":
                visit.sent += len(message.get("body", b""))
            await send(message)

        answer = _headless(marked) if visit.method == _HEAD else marked
        wrong = _too_large(bound) if _announced(scope) > bound else _unreadable(scope)
        if wrong is not None:
            await self._refuse(wrong, scope, receive, answer, visit)
            return
        try:
            await self._app(scope, counted, answer)
        except (_Unread, ClientDisconnect):  # the other: nobody is there any more
            return
        except Exception as error:  # whatever it was, its message may hold a user's text: the log gets its place
            if visit.status in _UNREAD:
                return  # somebody made another error of it
            frames = traceback.extract_tb(error.__traceback__)[-3:]
            place = " < ".join(f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in reversed(frames))
            log("gateway", logging.ERROR, Action.REQUEST_FAILED, f"{type(error).__name__} in {place}",
                request_id=visit.request_id)  # fmt: skip
            if not visit.status:
                await self._refuse(internal_error(), scope, receive, answer, visit)

    async def _refuse(self, refusal: Refusal, scope: Scope, receive: Receive, send: Send, visit: RequestLog) -> None:
        visit.refused(refusal.why.code)
        response = response_of(refusal, scope["path"], visit.request_id)
        if not visit.status and refusal.why is not Why.INTERNAL:
            response.headers["connection"] = "close"  # the rest of it is not read
        await response(scope, receive, send)

    def _tell(self, scope: Scope, visit: RequestLog) -> None:
        # The path as it came may hold anything; that of the route is one of ours.
        route = getattr(scope.get("route"), "path", "-")
        self._on_end(visit, route)
        log(
            "gateway",
            logging.DEBUG if route in _QUIET else logging.INFO,
            Action.REQUEST,
            f"{visit.method} {route} {visit.status or 'hung up'}",
            request_id=visit.request_id,
            tenant=visit.tenant,
            key=visit.key_id,
            ms=round(visit.seconds * 1000, 1),
            received=visit.received,
            sent=visit.sent,
            **({"why": visit.why} if visit.why else {}),
        )


def _headless(send: Send) -> Send:
    """Send the head of a response without its body.

    A body that comes in parts is cut off as if the client had hung up: it may have no end.
    """

    async def head(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
            return
        await send({"type": message["type"], "body": b""})
        if message.get("more_body", False):
            raise ClientDisconnect

    return head


def _too_large(bound: int) -> Refusal:
    return Refusal(Why.TOO_LARGE, f"the body may have {bound} bytes at most")


def _too_slow(received: int) -> Refusal:
    return Refusal(
        Why.TOO_SLOW,
        f"the body came too slowly, {received} bytes so far: send {paces.LEAST_RATE} bytes a second at least, with "
        f"pauses of {paces.GRACE_SECONDS:g} s at most; a large file may come in parts (POST /v1/uploads)",
    )


def _request_id(scope: Scope) -> str:
    """Return the client's request id if it can be logged; else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return f"req_{uuid.uuid4().hex}"


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _unreadable(scope: Scope) -> Refusal | None:
    """Return why a request's headers cannot be understood; None if they can."""
    found = {name: value.decode("latin-1").strip().lower() for name, value in scope["headers"]}
    if len(found) < len(scope["headers"]):
        given = Counter(name for name, _ in scope["headers"])
        for name in sorted(_ONCE):
            if given[name] > 1:
                return Refusal(Why.INVALID, f"the header {name.decode().title()} is given more than once: send it once")
    if b"transfer-encoding" in found and b"content-length" in found:
        return Refusal(Why.INVALID, "the request has both Transfer-Encoding and Content-Length: send one of them")
    encoding = found.get(b"content-encoding", "")
    if encoding not in _PLAIN:
        words = f"the request says Content-Encoding: {encoding[:_LONGEST]}, and bodies are read as they are: send it "
        return Refusal(
            Why.MEDIA_TYPE, f"{words}uncompressed, and leave the header out", headers={"accept-encoding": "identity"}
        )
    return None
