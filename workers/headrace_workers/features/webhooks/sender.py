"""Sending: many letters at once, in one thread, each bounded in time and in what is read of its answer."""

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, TypeVar

from headrace_workers.core.log import Action, log
from headrace_workers.features.webhooks import signing, targets
from headrace_workers.features.webhooks.targets import Reach

if TYPE_CHECKING:
    import ssl

    import httpcore

    from headrace_workers.features.webhooks.network import Resolve

# The letters that are on their way to one endpoint: how many at a time, and when the next ones need not wait for that.
#
# Each `send` holds a thread of the process. A receiver that hangs may hold one thread, not one for each of its events:
# while it is silent, other letters to it wait. It is silent when it takes four times as long as usual, and a quarter of
# a second at least.
#
# A letter that hangs says little about its receiver if others are answered. Once a later letter was answered, the one
# that hangs is passed: it only keeps its slot. A single letter that hangs may be such a one, so a receiver that has
# answered before is silent only when two hang.

CONCURRENCY: Final = 8  # letters on their way to one endpoint, from this process
_TIMES: Final = 4.0  # as long as usual
_SOONEST: Final = 0.25  # seconds
_LATEST: Final = 2.0
_NEW: Final = 0.2  # of the usual time is that of the latest answer


class Line:
    """Belongs to one event loop. `others_wait`: somebody was kept off."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._gate = asyncio.Semaphore(CONCURRENCY)
        self._news = asyncio.Event()
        self._begun: dict[object, float] = {}  # what is on its way and was not passed, the oldest first
        self._passed: set[object] = set()  # what is on its way, while a later one was answered
        # Seconds to an answer. None: it was never asked, or did not answer one that no other passed.
        self._usual: float | None = None
        self.others_wait = False

    @property
    def idle(self) -> bool:
        """Return True if nothing is being sent."""
        return not self._begun and not self._passed

    async def begin(self) -> bool:
        """Wait until one more may send, beside those who do; False where it is kept off.

        Nobody sends beside others before the receiver has answered: it may be about to hang.
        """
        while self._begun and (left := self._patience()) > 0:
            if self._usual is not None:
                return True
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                continue
        return self._kept_off() if self._begun else True

    async def turn(self, holds: Callable[[], bool]) -> bool:
        """Wait for the turn of one letter; False where it is kept off. A caller that `holds` letters on their way waits
        in any case.
        """
        while True:
            left = self._patience()
            if left <= 0 and not holds():
                return self._kept_off()
            try:
                async with asyncio.timeout(left if 0 < left < _LATEST else _LATEST):
                    return await self._gate.acquire()
            except TimeoutError:
                continue

    @contextmanager
    def on_its_way(self) -> Iterator[Callable[[bool], None]]:
        """Time one letter at its turn. Yield a function to call with True if there was an answer."""
        letter, begun = object(), self._monotonic()
        self._begun[letter] = begun

        def answered(there_was: bool) -> None:
            if there_was:
                took = self._monotonic() - begun
                before = took if self._usual is None else self._usual
                self._usual = before + _NEW * (took - before)
                self._pass_all_before(letter)
            elif letter not in self._passed:
                self._usual = None

        try:
            yield answered
        finally:
            self._begun.pop(letter, None)
            self._passed.discard(letter)
            self._gate.release()
            self._news.set()
            self._news = asyncio.Event()

    def _pass_all_before(self, letter: object) -> None:
        """Know that a letter was answered, and those that were sent before it were not."""
        if letter in self._begun:
            before = list(itertools.takewhile(lambda each: each is not letter, self._begun))
            self._passed.update(before)
            for item in before:
                del self._begun[item]

    def _patience(self) -> float:
        """Return the seconds until the receiver is silent."""
        silent = 1 if self._usual is None else 2
        oldest = next(itertools.islice(self._begun.values(), silent - 1, None), None)
        if oldest is None:
            return _LATEST
        usual = 0.0 if self._usual is None else self._usual
        return oldest + min(_LATEST, max(_SOONEST, _TIMES * usual)) - self._monotonic()

    def _kept_off(self) -> bool:
        self.others_wait = True
        return False


T = TypeVar("T")

SECONDS: Final = 15.0  # from the first look at its name to the last header of its answer
BODY_SECONDS: Final = 2.0  # more, for what of the answer is kept: it decides nothing
CONNECT_SECONDS: Final = 5.0  # for each address
_READ: Final = 16 * 1024  # bytes of an answer: with more to come the connection is closed
_KEPT: Final = 1_024  # characters of it
_CONNECTIONS: Final = 1_024
IDLE_CONNECTIONS: Final = 128
_IDLE_SECONDS: Final = 30.0
_LINES: Final = 1_024  # endpoints of which it is remembered how they answer
_FAILS: Final = 300  # and above: redirects are not followed
_GONE: Final = 410
_TOLD_EVERY: Final = 60.0  # seconds between two log lines about one host
_HOSTS_TOLD: Final = 1_024
# Of every letter for which no connection stood, whatever the reason: a tenant that chooses names would learn from the
# reason which of them this network knows, and what they lead to.
UNREACHED: Final = "it cannot be reached: its name has no public address, or nothing listens there"
_LONGEST_WISH: Final = 86_400.0  # seconds that a receiver may ask us to wait


@dataclass(frozen=True, slots=True)
class Letter:
    """A delivery to be sent: its id is the same at each attempt. `keys` sign it: see signing.py."""

    id: str
    url: str
    body: bytes
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of one attempt. Without an error it was taken.

    `status`: the HTTP status, where there was one. `after`: seconds that the receiver asks us to wait. One that is
    `hopeless` is not tried again.
    """

    ms: int
    status: int | None = None
    error: str | None = None
    text: str = ""
    after: float | None = None
    hopeless: bool = False

    @property
    def taken(self) -> bool:
        """Return True if the endpoint accepted it."""
        return self.error is None

    @property
    def gone(self) -> bool:
        """Return True if the endpoint never wants anything again."""
        return self.status == _GONE


class Sender:
    """Sends letters. Thread-safe; must not be carried over a fork. `resolve` and `context` are for tests and for
    certificates of one's own.
    """

    def __init__(
        self,
        reach: Reach,
        *,
        seconds: float = SECONDS,
        resolve: "Resolve | None" = None,
        context: "ssl.SSLContext | None" = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._reach = reach
        self._seconds = seconds
        self._resolve = resolve
        self._context = context
        self._now = now
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pools: dict[str, httpcore.AsyncConnectionPool] = {}
        self._lines: dict[str, Line] = {}  # the one that was used last is the last
        self._logged_at: dict[str, float] = {}  # when the log was told of a host, oldest first
        self._agent = f"headrace/{version('headrace')} (webhooks)"

    def send(self, endpoint: str, letters: Sequence[Letter], *, probing: bool, patience: int) -> list[Reply | None]:
        """Send these to one endpoint, a few at a time; what came of each, None where it was not tried.

        The rest is left when `patience` of them in a row were not taken, or the receiver wants nothing now; all are
        where it is silent about earlier ones. When `probing`, the first goes alone, and the others only after it was
        taken.
        """
        return self._run(self._all(endpoint, letters, probing=probing, patience=patience))

    def others_wait(self, endpoint: str) -> bool:
        """Return True if letters to this endpoint were left out since the last call, because it was silent about
        others.
        """
        line = self._lines.get(endpoint)
        if line is None or not line.others_wait:
            return False
        line.others_wait = False
        return True

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="sender", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _all(
        self, endpoint: str, letters: Sequence[Letter], *, probing: bool, patience: int
    ) -> list[Reply | None]:
        replies: list[Reply | None] = [None] * len(letters)
        line = self._line(endpoint)
        if not letters or not await line.begin():
            return replies
        first = 0
        if probing:
            await self._hand(letters, replies, line, _Round(iter(range(1)), patience))
            if replies[0] is None or not replies[0].taken:
                return replies
            first = 1
        state = _Round(iter(range(first, len(letters))), patience)
        await asyncio.gather(
            *(self._hand(letters, replies, line, state) for _ in range(min(CONCURRENCY, len(letters))))
        )
        return replies

    def _line(self, endpoint: str) -> Line:
        line = self._lines.pop(endpoint) if endpoint in self._lines else Line()
        self._lines[endpoint] = line
        if len(self._lines) > _LINES:
            oldest = next((name for name, item in self._lines.items() if item.idle and item is not line), None)
            if oldest is not None:
                del self._lines[oldest]
        return line

    async def _hand(self, letters: Sequence[Letter], replies: list[Reply | None], line: Line, state: "_Round") -> None:
        """Send deliveries one after the other, until none is left or the endpoint must be spared."""
        while not state.over and await line.turn(lambda: state.on_way > 0):
            with line.on_its_way() as answered:
                place = None if state.over else next(state.places, None)
                if place is None:
                    return
                state.on_way += 1
                reply = replies[place] = await self._one(letters[place])
                state.on_way -= 1
                answered(reply.status is not None)
            state.note(reply)

    async def _one(self, letter: Letter) -> Reply:
        begun = time.monotonic()

        def reply(**facts: Any) -> Reply:
            return Reply(ms=int((time.monotonic() - begun) * 1000), **facts)

        try:
            target = targets.read_url(letter.url, self._reach)
        except targets.UrlRefused as error:
            return reply(error=str(error), hopeless=True)
        try:
            return await self._exchange(letter, target, reply)
        except TimeoutError:
            return reply(error=f"no answer within {self._seconds:g} s")
        except Exception as error:  # whatever the network or the receiver did: it concerns this letter alone
            words = _in_words(error)
            if words is None:
                self._tell(target.host, error)
            return reply(error=words or UNREACHED)

    def _tell(self, host: str, error: Exception) -> None:
        """Tell the log why there is no connection to a host, now and then."""
        now = time.monotonic()
        if now - self._logged_at.get(host, float("-inf")) < _TOLD_EVERY:
            return
        self._logged_at.pop(host, None)
        self._logged_at[host] = now
        if len(self._logged_at) > _HOSTS_TOLD:
            del self._logged_at[next(iter(self._logged_at))]
        log("webhooks", logging.WARNING, Action.UNREACHED, f"{host} cannot be reached: {str(error)[:300]}")

    async def _exchange(self, letter: Letter, target: targets.Target, reply: Callable[..., Reply]) -> Reply:
        import httpcore

        headers = {
            "Host": target.authority,
            "User-Agent": self._agent,
            "Content-Type": "application/json",
            "Content-Length": str(len(letter.body)),
            "Accept-Encoding": "identity",
            **signing.headers(letter.id, int(self._now()), letter.body, letter.keys),
        }
        request = httpcore.Request(
            "POST",
            httpcore.URL(
                scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
            ),
            headers=[(name.encode(), value.encode()) for name, value in headers.items()],
            content=letter.body,
            extensions={"timeout": {"connect": min(CONNECT_SECONDS, self._seconds)}},
        )
        async with asyncio.timeout(self._seconds):
            response = await self._pool(target.scheme).handle_async_request(request)
        try:
            text = await _beginning(response)
        finally:
            await response.aclose()
        after = _retry_after(response.headers, self._now()) if response.status >= _FAILS else None
        return reply(status=response.status, error=_refused(response.status), text=text, after=after)

    def _pool(self, scheme: str) -> "httpcore.AsyncConnectionPool":
        import httpcore
        import httpx

        from headrace_workers.features.webhooks.network import CheckedNetwork, SystemResolver

        if scheme not in self._pools:
            if self._resolve is None:
                self._resolve = SystemResolver()
            self._pools[scheme] = httpcore.AsyncConnectionPool(
                ssl_context=self._context or httpx.create_ssl_context(),
                max_connections=_CONNECTIONS,
                max_keepalive_connections=IDLE_CONNECTIONS,
                keepalive_expiry=_IDLE_SECONDS,
                network_backend=CheckedNetwork(scheme, self._reach, self._resolve),
            )
        return self._pools[scheme]


class _Round:
    """The letters that are still to be sent, and whether there is sense in it."""

    def __init__(self, places: Iterator[int], patience: int) -> None:
        self.places = places
        self.over = False
        self.on_way = 0
        self._patience = patience
        self._failures = 0

    def note(self, reply: Reply) -> None:
        """One more was tried."""
        if reply.hopeless:  # which says nothing about the receiver
            return
        self._failures = 0 if reply.taken else self._failures + 1
        self.over |= self._failures >= self._patience or reply.gone or reply.after is not None


async def _beginning(response: "httpcore.Response") -> str:
    """The first characters of an answer, for people. Neither what it says nor whether it ends decides anything."""
    read = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in response.aiter_stream():
                read += part
                if len(read) >= _READ:
                    break
    except Exception:  # it broke off, or came too slowly: what was read is kept
        return _text(read)
    return _text(read)


def _text(read: bytearray) -> str:
    return read[: 4 * _KEPT].decode("utf-8", "replace").replace("\x00", "\ufffd")[:_KEPT]


def _refused(status: int) -> str | None:
    if status < _FAILS:
        return None
    if status < 400:
        return f"it answered {status}: redirects are not followed; give the URL that it leads to"
    if status == _GONE:
        return "it answered 410: it wants nothing more"
    return f"it answered {status}"


def _retry_after(headers: Sequence[tuple[bytes, bytes]], now: float) -> float | None:
    """Return the seconds that the endpoint asks us to wait: Retry-After, in seconds or as a date."""
    value = next((value for name, value in headers if name.lower() == b"retry-after"), None)
    if value is None:
        return None
    text = value.decode("latin-1").strip()
    try:
        seconds = float(int(text)) if text.isdecimal() else parsedate_to_datetime(text).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(_LONGEST_WISH, seconds) if seconds > 0 else None


def _in_words(error: Exception) -> str | None:
    """Return what went wrong with a connection, without the other side's words. None where none stood."""
    import ssl

    from headrace_workers.features.webhooks.network import AddressRefused

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not valid: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):  # the receiver was connected to
            return f"it does not speak TLS as we do ({type(cause).__name__}: {cause.reason})"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, AddressRefused) or type(error).__name__ in ("ConnectError", "ConnectTimeout"):
        return None
    return f"{_KINDS.get(type(error).__name__, 'the connection failed')} ({type(error).__name__}: {str(error)[:200]})"


_KINDS: Final = {
    "RemoteProtocolError": "it closed the connection, or does not speak HTTP",
    "ReadError": "the connection broke before it had answered",
    "WriteError": "the connection broke before it had all",
    "LocalProtocolError": "the request cannot be written",
}
