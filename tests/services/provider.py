"""A provider of models on this machine: it answers in the streams of OpenAI and of Anthropic, well or badly."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "teacher-2026-11-01"  # the name that it returns for whatever model it is asked for


@dataclass(frozen=True)
class Heard:
    """One request."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def is_anthropic(self) -> bool:
        """Return True if the answer is to be in Anthropic's form."""
        return self.path.endswith("/messages")

    @property
    def asked(self) -> str:
        """Return the last message."""
        content = self.body["messages"][-1]["content"]
        return content if isinstance(content, str) else "".join(item["text"] for item in content)

    @property
    def max_tokens(self) -> int:
        """Return how long the answer may be."""
        return int(self.body.get("max_tokens") or self.body["max_completion_tokens"])


class Reply:
    """The answer to one request, in the form that its client reads."""

    def __init__(self, handler: BaseHTTPRequestHandler, heard: Heard) -> None:
        self._handler = handler
        self.heard = heard
        self.model = MODEL

    def status(self, status: int, body: object = None, **headers: str) -> None:
        """Answer with this status and a body of JSON."""
        content = json.dumps({} if body is None else body).encode()
        self.begin(status, content_type="application/json", content_length=str(len(content)), **headers)
        self.raw(content)

    def begin(self, status: int = 200, content_type: str = "text/event-stream", **headers: str) -> None:
        """Begin to answer."""
        self._handler.send_response(status)
        for name, value in {"content-type": content_type, **headers}.items():
            self._handler.send_header(name.replace("_", "-"), value)
        self._handler.end_headers()

    def raw(self, content: bytes) -> None:
        """Send these bytes."""
        self._handler.wfile.write(content)
        self._handler.wfile.flush()

    def event(self, data: object, name: str | None = None) -> None:
        """Send an event."""
        head = f"event: {name}\n" if name else ""
        self.raw(f"{head}data: {json.dumps(data)}\n\n".encode())

    def ping(self) -> None:
        """Send what keeps the connection open and says nothing."""
        self.raw(b'event: ping\ndata: {"type": "ping"}\n\n' if self.heard.is_anthropic else b": ping\n\n")

    def start(self, prompt_tokens: int = 3, cached: int = 0, **headers: str) -> None:
        """Begin a stream of an answer."""
        self.begin(**headers)
        if self.heard.is_anthropic:
            usage = {"input_tokens": prompt_tokens - cached, "cache_read_input_tokens": cached, "output_tokens": 1}
            message = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": self.model,
                       "stop_reason": None, "stop_sequence": None, "usage": usage}  # fmt: skip
            self.event({"type": "message_start", "message": message}, "message_start")
            block = {"type": "text", "text": ""}
            self.event({"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start")

    def text(self, text: str) -> None:
        """Send a part of the answer."""
        if self.heard.is_anthropic:
            delta = {"type": "text_delta", "text": text}
            self.event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")
        else:
            self.event(self.chunk({"content": text}))

    def call(self, call_id: str, name: str, *parts: str, index: int = 0) -> None:
        """Send a call of a tool, its arguments in these parts."""
        if self.heard.is_anthropic:
            block = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
            place = {"index": index + 1}
            self.event({"type": "content_block_start", **place, "content_block": block}, "content_block_start")
            for part in parts:
                delta = {"type": "input_json_delta", "partial_json": part}
                self.event({"type": "content_block_delta", **place, "delta": delta}, "content_block_delta")
            self.event({"type": "content_block_stop", **place}, "content_block_stop")
            return
        head = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
        self.event(self.chunk({"tool_calls": [head]}))
        for part in parts:
            self.event(self.chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]}))

    def think(self, text: str) -> None:
        """Send a part of what the model thinks."""
        if self.heard.is_anthropic:
            delta = {"type": "thinking_delta", "thinking": text}
            self.event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")
        else:
            self.event(self.chunk({"reasoning_content": text}))

    def end(
        self, finish: str = "stop", *, read: Any = 3, written: Any = 2, cached: int = 0, thought: int | None = None
    ) -> None:
        """End the answer, with what it used."""
        if self.heard.is_anthropic:
            usage = {"output_tokens": written}
            if thought is not None:
                usage["output_tokens_details"] = {"thinking_tokens": thought}
            reason = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}.get(finish, finish)
            self.event({"type": "content_block_stop", "index": 0}, "content_block_stop")
            self.event({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}, "message_delta")
            self.event({"type": "message_stop"}, "message_stop")
            return
        self.event(self.chunk({}, finish))
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": 0}
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
        if thought is not None:
            usage["completion_tokens_details"] = {"reasoning_tokens": thought}
        self.event({**self.chunk({}), "choices": [], "usage": usage})
        self.raw(b"data: [DONE]\n\n")

    def error(self, message: str) -> None:
        """Send an error inside a stream that began well."""
        if self.heard.is_anthropic:
            self.event({"type": "error", "error": {"type": "overloaded_error", "message": message}}, "error")
        else:
            self.event({"error": {"message": message, "type": "server_error"}})

    def chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        """Return a chunk of an answer of OpenAI."""
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": self.model,
                "system_fingerprint": "fp_1",
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}  # fmt: skip


Behaviour = Callable[["Provider", Reply], None]


def echoes(_provider: "Provider", reply: Reply) -> None:
    """Answer with the words of the last message: a word is a token. Heed the limit and the stop texts."""
    heard = reply.heard
    words = heard.asked.split(" ") if heard.asked else []
    shown = words[: heard.max_tokens]
    text = " ".join(shown)
    stops: Sequence[str] = heard.body.get("stop") or heard.body.get("stop_sequences") or ()
    cuts = [place for stop in stops if (place := text.find(stop)) >= 0]
    read = sum(len(str(message["content"]).split(" ")) for message in heard.body["messages"])
    reply.start(prompt_tokens=read)
    cut = text[: min(cuts)] if cuts else text
    for place in range(0, len(cut), 7):
        reply.text(cut[place : place + 7])
    stopped = bool(cuts) or len(words) <= heard.max_tokens
    reply.end("stop" if stopped else "length", read=read, written=len(shown))


class Portions:
    """A behaviour that echoes as many requests as a test allows, and keeps the others waiting: however fast a machine
    is, what it does not allow is not done when something is killed.
    """

    def __init__(self) -> None:
        self._left = 0
        self._lock = threading.Lock()
        self._later = threading.Event()

    def allow(self, answers: int) -> None:
        """Answer so many of the requests that come from now on."""
        with self._lock:
            self._left = answers

    def answer_those_that_wait(self) -> None:
        """Answer what waits now, so that a worker that stops does not wait for it."""
        with self._lock:
            self._later.set()
            self._later = threading.Event()

    def __call__(self, provider: "Provider", reply: Reply) -> None:
        """Answer at once, or later."""
        with self._lock:
            self._left -= 1
            late, later = self._left < 0, self._later
        if late:
            later.wait()
        echoes(provider, reply)


class Provider:
    """The server. `behave` answers each request; `heard` are the requests, and `over` is set when the test is."""

    def __init__(self, behave: Behaviour = echoes, context: ssl.SSLContext | None = None) -> None:
        self.behave, self.heard, self.over = behave, list[Heard](), threading.Event()
        self.open = self.most_open = 0
        self.left = threading.Event()  # a client has hung up
        self._lock = threading.Lock()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers.get("content-length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                provider._answer(self, Heard(self.path, headers, json.loads(self.rfile.read(size))))

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                provider._answer(self, Heard(self.path, headers, {}))

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 1024

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self._scheme = "http" if context is None else "https"
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        """Return its address."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop."""
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler: BaseHTTPRequestHandler, heard: Heard) -> None:
        with self._lock:
            self.heard.append(heard)
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        try:
            self.behave(self, Reply(handler, heard))
        except OSError:
            self.left.set()
        finally:
            with self._lock:
                self.open -= 1


@contextmanager
def providing(behave: Behaviour = echoes, context: ssl.SSLContext | None = None) -> Iterator[Provider]:
    """Run a provider while the body runs."""
    provider = Provider(behave, context)
    try:
        yield provider
    finally:
        with suppress(OSError):
            provider.close()
