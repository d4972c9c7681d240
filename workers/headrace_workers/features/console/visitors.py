"""Visitors of the console: sessions by cookie, the address that may send forms, and a limit on failed sign-ins."""

import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import Response

from headrace_workers.features.console.store import SESSION_MS, UP, ConsoleSessions, Secret
from headrace_workers.http.caller import OPEN, Caller
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.services import Services

CONSOLE: Final = "/console"
MOST_ATTEMPTS: Final = 10  # that fail, of one address in a window
_WINDOW: Final = 60.0  # seconds
_POLLED_SECONDS: Final = 5.0  # in which a page that asks again and again has its session looked up once
_MOST_POLLS: Final = 1_000
_MOST_PEERS: Final = 1_000
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})


class Visitors:
    """The visitors of one gateway's console. Belongs to the event loop. `public_url` may be empty: then the address on
    which the gateway listens counts, if it is of this machine alone.
    """

    def __init__(self, public_url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._public_url = public_url
        self._run = secrets.token_hex(8)  # sessions without a key end with this process
        self._attempts = Attempts(monotonic)
        self._monotonic = monotonic
        self._polled: OrderedDict[str, tuple[float, Row[Any]]] = OrderedDict()  # by digest

    def address(self, request: Request) -> str | None:
        """Return the address of this gateway for its users; None where nobody has said it.

        The request's own claims are not trusted: a page of somebody else could make them, too.
        """
        if self._public_url:
            return self._public_url
        host, port = request.scope.get("server") or ("", 0)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}" if host in _LOOPBACK else None

    def check_origin(self, request: Request) -> None:
        """Raise 403 unless a page of this console sent the request."""
        address = self.address(request)
        if address is None:
            raise Refusal(
                Why.FORBIDDEN,
                "the console does not know its own address: set HEADRACE_PUBLIC_URL of the gateway to the address in "
                "your browser, without /console",
            )
        parts = urlsplit(address)
        if request.headers.get("origin") != f"{parts.scheme}://{parts.netloc}":
            raise Refusal(
                Why.FORBIDDEN,
                f"the console takes forms only from its own pages at {address}{CONSOLE}/: open that address, or set "
                "HEADRACE_PUBLIC_URL of the gateway to the one that you use",
            )

    async def visitor(self, request: Request, services: Services, *, polls: bool = False) -> Caller | None:
        """Return who is signed in, with the rights of their key; None where nobody is. Raise 503 where the ledger does
        not answer. `polls`: a page asks for a part of itself, and its session may have been found seconds ago.
        """
        secret = request.cookies.get(self._cookie(request))
        if not secret:
            return None
        session = await self._session(services, Secret(secret).digest, polls)
        if session is None or (session.key_id == OPEN and session.run != self._run):
            return None
        try:
            holder = await services.keyring.holder(request, session.key_id)
        except Refusal as refusal:
            if refusal.why is Why.UNAUTHORIZED:
                return None
            raise
        # Whoever has a key with a name is that person, and nobody else: decisions are signed with it.
        is_named = session.run != UP and holder.name not in ("", holder.key_id)
        return holder if is_named else replace(holder, name=session.name)

    async def _session(self, services: Services, digest: str, polls: bool) -> Row[Any] | None:
        now = self._monotonic()
        if polls and (kept := self._polled.get(digest)) is not None and now - kept[0] < _POLLED_SECONDS:
            return kept[1]
        session = await services.ask(services.ledger.of(ConsoleSessions).find, digest)
        self._polled.pop(digest, None)
        if session is not None and polls:
            self._polled[digest] = now, session
            if len(self._polled) > _MOST_POLLS:
                self._polled.popitem(last=False)
        return session

    async def redeem(self, request: Request, services: Services, token: str) -> Secret | None:
        """Begin a session by a token of `headrace up`. Return None if it is not valid; raise 429 if too many were not.

        A token that is nobody's costs no write.
        """
        sessions, digest, secret = services.ledger.of(ConsoleSessions), Secret(token).digest, Secret.new()
        if await services.ask(sessions.is_offered, digest) and await services.ask(
            sessions.redeem, digest, secret.digest
        ):
            return secret
        self._attempts.failed(request)
        return None

    async def sign_in(self, request: Request, services: Services, name: str, key: str) -> Secret:
        """Begin a session by an API key. Raise 401 if it is not valid, and 429 if too many were not."""
        try:
            caller = await services.keyring.caller(request, key, own_page=True)
        except Refusal as refusal:
            if refusal.why is Why.UNAUTHORIZED:
                self._attempts.failed(request)
            raise
        secret = Secret.new()
        run = self._run if caller.key_id == OPEN else ""
        await services.ask(services.ledger.of(ConsoleSessions).begin, secret.digest, name, caller.key_id, run)
        return secret

    async def sign_out(self, request: Request, services: Services) -> None:
        """End the session of this browser."""
        if secret := request.cookies.get(self._cookie(request)):
            digest = Secret(secret).digest
            await services.ask(services.ledger.of(ConsoleSessions).end, digest)
            self._polled.pop(digest, None)

    def keep(self, request: Request, response: Response, secret: Secret | None) -> None:
        """Give the browser its cookie, or with None take it away."""
        parts = urlsplit(self.address(request) or "")
        response.set_cookie(
            self._cookie(request),
            secret.text if secret else "",
            max_age=SESSION_MS // 1000 if secret else 0,
            path=f"{parts.path}{CONSOLE}",
            secure=parts.scheme == "https",
            httponly=True,
            samesite="strict",
        )

    def _cookie(self, request: Request) -> str:
        """Return the name of the cookie. Browsers do not tell the ports of one machine apart, so the name does."""
        parts = urlsplit(self.address(request) or "")
        name = "headrace_console" if parts.port is None else f"headrace_console_{parts.port}"
        return f"__Secure-{name}" if parts.scheme == "https" else name


class Attempts:
    """Failed attempts to sign in, by address. A valid key or token always signs in, however many others have failed
    from the same address: else anybody could lock out all who share a proxy. Their 192 random bits or more cannot be
    guessed at any rate; the limit tells clients that try again and again to wait.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, request: Request) -> None:
        """Count a failed attempt. Raise 429 if the client's address has failed too often."""
        peer, now = request.client.host if request.client else "", self._monotonic()
        times = self._failed.setdefault(peer, deque(maxlen=MOST_ATTEMPTS))
        self._failed.move_to_end(peer)
        if len(self._failed) > _MOST_PEERS:
            self._failed.popitem(last=False)
        if len(times) == MOST_ATTEMPTS and (wait := times[0] + _WINDOW - now) > 0:
            raise Refusal(Why.RATE, "too many attempts to sign in have failed: wait a minute", retry_after=wait)
        times.append(now)
