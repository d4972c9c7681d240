"""Receivers of webhooks: servers that keep what they are sent, and answer well or badly."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Heard(NamedTuple):
    """One request: `headers` have names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[["Receiver", Any, Heard], None]


class Receiver:
    """A server on this machine. `answer` writes to the handler; `over` is set when the test is."""

    def __init__(self, answer: Answer, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> None:
        self.answer, self.heard, self.over = answer, list[Heard](), threading.Event()
        self.server_names: list[str | None] = []
        self.written = 0  # bytes of endless answers
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                size = int(self.headers.get("content-length", 0))
                heard = Heard(self.path, {k.lower(): v for k, v in self.headers.items()}, self.rfile.read(size))
                receiver.heard.append(heard)
                with suppress(OSError):
                    receiver.answer(receiver, self, heard)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
            request_queue_size = 256

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server((host, 0), Handler)
        if context is not None:
            context.sni_callback = lambda _socket, name, _context: self.server_names.append(name)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.host, self.port = host, self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/hooks?for=us"

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()


def says(status: int = 200, body: bytes = b"thank you", **headers: str) -> Answer:
    def answer(_receiver: Receiver, handler: Any, _heard: Heard) -> None:
        handler.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def hangs(receiver: Receiver, handler: Any, _heard: Heard) -> None:
    """Never answers, and hangs up when it is over."""
    receiver.over.wait(600)
    handler.close_connection = True


def drips_headers(receiver: Receiver, handler: Any, _heard: Heard) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
    while not receiver.over.wait(0.02):
        handler.wfile.write(b"a")
        handler.wfile.flush()


def drips_body(receiver: Receiver, handler: Any, _heard: Heard) -> None:
    """Says 200 at once, and then a byte at a time."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while not receiver.over.wait(0.02):
        handler.wfile.write(b"a")
        handler.wfile.flush()


def endless(receiver: Receiver, handler: Any, _heard: Heard) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2147483648\r\n\r\n")
    block = b"x" * 65_536
    while receiver.written < 2**31:
        handler.wfile.write(block)
        receiver.written += len(block)


def closes(_receiver: Receiver, handler: Any, _heard: Heard) -> None:
    """Closes the connection without a word."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def receiving(answer: Answer | None = None, **how: Any) -> Iterator[Receiver]:
    receiver = Receiver(answer or says(), **how)
    try:
        yield receiver
    finally:
        receiver.close()
