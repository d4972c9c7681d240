"""A reverse proxy that serves what is behind it under a path prefix."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class PrefixProxy:
    """The proxy: `url` is for clients, `asked` has the paths that they asked for. Set `port_behind` first."""

    def __init__(self, prefix: str) -> None:
        self.asked: list[str] = []
        self.port_behind = 0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self) -> None:
                proxy.asked.append(self.path)
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                behind = HTTPConnection("127.0.0.1", proxy.port_behind, timeout=120)
                behind.request(self.command, self.path.removeprefix(prefix), body, dict(self.headers))
                answer = behind.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}{prefix}"


@contextmanager
def prefix_proxy(prefix: str) -> Iterator[PrefixProxy]:
    proxy = PrefixProxy(prefix)
    thread = threading.Thread(target=proxy.server.serve_forever)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        thread.join()
        proxy.server.server_close()
