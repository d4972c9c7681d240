"""HTTP requests over many connections, by a process that costs little: the other side is what is measured.

`main([QUESTION])` reads a JSON file: `port`, and `connections`, each a list of whole requests, of which the next is
sent when the one before was answered. It connects, prints `ready`, begins when it is told a line, and prints JSON in
the end: `answers` has [sent, answered, status] of each request of each connection, in seconds by the machine's clock.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

_AT_ONCE = 100  # connections that are made at a time
_SECONDS = 300.0


class _Connection(asyncio.Protocol):
    """One connection and what it asks. Answers must tell their length."""

    def __init__(self, requests: list[str], over: asyncio.Future[None]) -> None:
        self.answers: list[tuple[float, float, int]] = []
        self._requests = [request.encode() for request in reversed(requests)]
        self._over = over
        self._read = bytearray()
        self._sent = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self) -> None:
        """Send the next request."""
        self._sent = time.time()
        self._transport.write(self._requests.pop())

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, end, body = bytes(self._read).partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self.answers.append((self._sent, time.time(), int(head[9:12])))
        self._read.clear()
        if self._requests:
            self.ask()
        elif not self._over.done():
            self._over.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over.done():
            self._over.set_exception(ConnectionError("the server closed the connection"))


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError("the answer does not tell its length")


async def _run(port: int, connections: list[list[str]]) -> list[list[tuple[float, float, int]]]:
    loop = asyncio.get_running_loop()
    made: list[_Connection] = []
    ends: list[asyncio.Future[None]] = []

    async def connect(requests: list[str]) -> None:
        over: asyncio.Future[None] = loop.create_future()
        _, connection = await loop.create_connection(lambda: _Connection(requests, over), "127.0.0.1", port)
        made.append(connection)
        ends.append(over)

    for start in range(0, len(connections), _AT_ONCE):
        await asyncio.gather(*map(connect, connections[start : start + _AT_ONCE]))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.readline)
    for connection in made:
        connection.ask()
    async with asyncio.timeout(_SECONDS):
        await asyncio.gather(*ends)
    return [connection.answers for connection in made]


def main(arguments: list[str]) -> None:
    """Answer the question in this file."""
    question = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    answers = asyncio.run(_run(question["port"], question["connections"]))
    json.dump({"answers": answers}, sys.stdout)
