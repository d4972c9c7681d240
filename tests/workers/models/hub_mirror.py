"""A mirror of the model hub on this machine: the same API for files, and faults on demand."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Mirror:
    """The mirror's content and faults, and the requests that it saw.

    `requests` are (method, path, Range, Authorization), `stored` the same of the store that it redirects to. `send`
    returns the bytes that a response really has, of those that it should; `before` is called at each of these requests.
    """

    content: bytes
    repository: str = "owner/some-GGUF"
    file: str = "some-model.q8_0.gguf"
    commit: str = COMMIT
    sha256: str | None = None
    ranges: bool = True
    statuses: list[int] = field(default_factory=list)  # of the next requests, before it answers
    location: str | None = None
    send: Callable[[bytes], bytes] = bytes
    before: Callable[[], None] = lambda: None
    requests: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    stored: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)
    endpoint: str = ""
    store: str = ""

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest() if self.sha256 is None else self.sha256

    def env(self, **more: str) -> dict[str, str]:
        return {"HF_ENDPOINT": self.endpoint, **more}


@contextmanager
def hub_mirror(mirror: Mirror) -> Iterator[Mirror]:
    class Hub(_Quiet):
        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            mirror.requests.append(self.seen())
            if mirror.statuses:
                self.say(mirror.statuses.pop(0))
            elif not self.path.startswith(f"/{mirror.repository}/resolve/") or not self.path.endswith(
                f"/{mirror.file}"
            ):
                self.say(404)
            else:
                headers = {"Location": mirror.location or f"{mirror.store}/blob?signed=yes"}
                if mirror.digest:
                    headers["X-Linked-ETag"] = f'"{mirror.digest}"'
                    headers["X-Linked-Size"] = str(len(mirror.content))
                self.say(302, **{"X-Repo-Commit": mirror.commit, **headers})

    class Store(_Quiet):
        def do_HEAD(self) -> None:
            self.say(200, size=len(mirror.content))

        def do_GET(self) -> None:
            mirror.stored.append(self.seen())
            mirror.before()
            begin, ranged = 0, self.headers.get("Range")
            if ranged and mirror.ranges:
                begin = int(ranged.removeprefix("bytes=").rstrip("-"))
            rest = mirror.content[begin:]
            span = {"Content-Range": f"bytes {begin}-{len(mirror.content) - 1}/{len(mirror.content)}"} if begin else {}
            sent = mirror.send(rest)
            self.say(206 if begin else 200, size=max(len(rest), len(sent)), Connection="close", **span)
            self.wfile.write(sent)

    with serving(Hub) as hub, serving(Store) as store:
        mirror.endpoint, mirror.store = hub, store.replace("127.0.0.1", "localhost")
        yield mirror


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def seen(self) -> tuple[str, str, str | None, str | None]:
        return self.command, self.path, self.headers.get("Range"), self.headers.get("Authorization")

    def say(self, status: int, size: int = 0, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(size))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve with this handler on a free port, and give its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
