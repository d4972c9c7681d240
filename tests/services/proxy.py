"""A TCP proxy before a service, for the faults that a kill does not make: silence, slowness, half a connection.

It accepts and acknowledges always, so that neither side's kernel notices anything.
"""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from headrace_workers.runtime.embedded.free_ports import LOOPBACK

Direction = Literal["both", "up", "down"]  # up: from the client to the service; down: what it answers

_CHUNK = 65_536
_LOOK = 0.02  # seconds


class Proxy:
    """Passes everything on until it is told otherwise. `port` is where clients connect, on loopback."""

    def __init__(self, port: int, host: str = LOOPBACK) -> None:
        self._target = (host, port)
        self._listener = socket.create_server((LOOPBACK, 0), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: set[_Pair] = set()
        self._robbed: set[_Pair] = set()
        self.swallowed: frozenset[str] = frozenset()
        self.held: frozenset[str] = frozenset()
        self.delay_seconds = 0.0
        self.closed = False
        self._accepting = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._accepting.start()

    @property
    def address(self) -> str:
        """host:port for clients."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def connections(self) -> int:
        """How many are open."""
        with self._lock:
            return len(self._pairs)

    @property
    def robbed(self) -> int:
        """How many connections have lost bytes, ever."""
        with self._lock:
            return len(self._robbed)

    def swallow(self, direction: Direction = "both") -> None:
        """Acknowledge, and pass nothing on, ever: half-open. New connections, too, until `heal`.

        A connection that lost bytes stays half-open after it.
        """
        self.swallowed = _directions(direction)

    def hold(self, direction: Direction = "both") -> None:
        """Keep what comes, and deliver it at `heal`, in order: a network that came back."""
        self.held = _directions(direction)

    def delay(self, seconds: float) -> None:
        """Pass everything on so much later, a chunk at a time."""
        self.delay_seconds = seconds

    def heal(self) -> None:
        """Pass everything on from now."""
        self.swallowed, self.held, self.delay_seconds = frozenset(), frozenset(), 0.0

    def cut(self) -> None:
        """End every connection that is open. New ones are accepted."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.cut()

    def close(self) -> None:
        """Accept nothing more, and cut."""
        self.closed = True
        close_listener(self._listener)
        self._accepting.join()
        self.cut()

    def forget(self, pair: "_Pair") -> None:
        """A connection has ended."""
        with self._lock:
            self._pairs.discard(pair)

    def rob(self, pair: "_Pair") -> None:
        """A connection has lost bytes."""
        with self._lock:
            self._robbed.add(pair)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._open, args=(client,), name="proxy", daemon=True).start()

    def _open(self, client: socket.socket) -> None:
        try:
            service = socket.create_connection(self._target, timeout=60)
        except OSError:  # whether the service is there is seen as without a proxy
            _reset(client)
            return
        service.settimeout(None)
        pair = _Pair(self, client, service)
        with self._lock:
            self._pairs.add(pair)
        if self.closed:
            pair.cut()
        else:
            pair.start()


class _Pair:
    """One client's connection and ours to the service."""

    def __init__(self, proxy: Proxy, client: socket.socket, service: socket.socket) -> None:
        self._proxy = proxy
        self._client, self._service = client, service
        for end in (client, service):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        """Carry both ways."""
        for ends in ((self._client, self._service, "up"), (self._service, self._client, "down")):
            threading.Thread(target=self._carry, args=ends, name=f"proxy-{ends[2]}", daemon=True).start()

    def cut(self) -> None:
        """End both."""
        _reset(self._client)
        _reset(self._service)
        self._proxy.forget(self)

    def _carry(self, source: socket.socket, target: socket.socket, direction: str) -> None:
        lost = False
        with suppress(OSError):
            while chunk := source.recv(_CHUNK):
                time.sleep(self._proxy.delay_seconds)
                while direction in self._proxy.held and not self._proxy.closed:
                    time.sleep(_LOOK)
                if not lost and direction in self._proxy.swallowed:
                    lost = True
                    self._proxy.rob(self)
                if not lost:
                    target.sendall(chunk)
            if lost or direction in self._proxy.swallowed:
                return  # the other side is not told of the end, either
        self.cut()


def _directions(direction: Direction) -> frozenset[str]:
    return frozenset({"up", "down"}) if direction == "both" else frozenset({direction})


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        end.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads from it
    end.close()


def close_listener(listener: socket.socket) -> None:
    """Close it, and wake the thread that waits in `accept`.

    One that is not woken waits on behind the close. It would take one more connection, and after a SIGSTOP those of
    whatever has the descriptor's number by then.
    """
    with suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@contextmanager
def proxied(port: int, host: str = LOOPBACK) -> Iterator[Proxy]:
    """A proxy before a service; gone at the end."""
    proxy = Proxy(port, host)
    try:
        yield proxy
    finally:
        proxy.close()
