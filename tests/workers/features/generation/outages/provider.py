"""A provider of models on this machine, which answers as OpenAI's API does, or fails in one of many ways."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

OK, DOWN, HANG, SLOW, BUSY, BROKEN = "ok", "down", "hang", "slow", "busy", "broken"
POISON: Final = "poison"  # in a prompt: its call fails with 500 and all of the prompt, and a command to a terminal


class Provider:
    """A server whose answers all have one `fault`. It counts the calls that it was asked."""

    def __init__(self) -> None:
        self.fault = OK
        self.text = "far away"
        self.seconds = 0.0  # until it answers
        self.calls: list[float] = []
        self.closing = threading.Event()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                provider.calls.append(time.monotonic())
                with suppress(OSError):
                    if POISON.encode() in body:
                        provider.quote(self, body.decode())
                    else:
                        provider.answer(self)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def answer(self, call: BaseHTTPRequestHandler) -> None:
        if self.fault == DOWN:
            call.send_error(503)
            return
        if self.fault == BROKEN:
            self.fault = OK  # it was broken once
            call.send_error(500)
            return
        if self.fault == BUSY:
            call.send_response(429)
            call.send_header("retry-after", "3600")
            call.end_headers()
            return
        if self.fault == HANG:
            self.closing.wait(60)
            return
        self.closing.wait(self.seconds)
        call.send_response(200)
        call.send_header("content-type", "text/event-stream")
        call.end_headers()
        if self.fault == SLOW:
            for _ in range(600):  # a piece now and then, and no end
                self._piece(call, {"content": "word "})
                if self.closing.wait(0.1):
                    return
        self._piece(call, {"content": self.text}, "stop")
        call.wfile.write(b"data: [DONE]\n\n")

    @staticmethod
    def quote(call: BaseHTTPRequestHandler, asked: str) -> None:
        content = json.dumps({"error": {"message": f"\x1b[2J cannot read {asked}"}}).encode()
        call.send_response(500)
        call.send_header("content-length", str(len(content)))
        call.end_headers()
        call.wfile.write(content)

    @staticmethod
    def _piece(call: BaseHTTPRequestHandler, delta: dict[str, str], finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m-1", "choices": [choice]}
        call.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        call.wfile.flush()

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def provider() -> Iterator[Provider]:
    made = Provider()
    try:
        yield made
    finally:
        made.close()


def catalogue(home: Path, models: dict[str, str], chains: dict[str, list[str]] | None = None, **limits: float) -> None:
    """Write a catalogue with these models, each at its endpoint."""
    lines = []
    for alias, url in models.items():
        lines += [f"[models.{alias}]", 'engine = "openai"', 'model = "m"', f'endpoint = "{url}"']
        lines += ["context_length = 8000", *(f"{name} = {value}" for name, value in limits.items())]
    for name, chain in (chains or {}).items():
        lines += [f"[chains.{name}]", f"models = {json.dumps(chain)}"]
    (home / "models.toml").write_text("\n".join(lines) + "\n")
