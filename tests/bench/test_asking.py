import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
from bench.asking import ask, request
from bench.ends import Stalled


@pytest.fixture
def server() -> Iterator[tuple[int, list[tuple[str, str, bytes]]]]:
    """A port, and what was asked there: path, key and body. What is below /no is answered with 404."""
    heard = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            heard.append((self.path, self.headers["authorization"], body))
            self.send_response(404 if self.path.startswith("/no") else 200)
            self.send_header("content-length", "70000")
            self.end_headers()
            self.wfile.write(b"x" * 70_000)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http_server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
    thread.start()
    yield http_server.server_address[1], heard
    http_server.shutdown()
    thread.join()
    http_server.server_close()


def test_each_connection_asks_one_after_the_other(server):
    port, heard = server
    asked = [[request("POST", f"/{line}/{n}", "hr_key", {"n": n}) for n in range(3)] for line in range(2)]
    found = ask(port, asked, 200)
    assert [len(answers) for answers in found] == [3, 3]
    assert all(answer.sent < answer.at for answers in found for answer in answers)
    assert all(one.at <= two.sent for answers in found for one, two in pairwise(answers))
    assert sorted(heard) == sorted(
        (f"/{line}/{n}", "Bearer hr_key", b'{"n": %d}' % n) for line in range(2) for n in range(3)
    )


def test_an_answer_that_was_not_expected_stops_it(server):
    """Its figures would mean nothing."""
    port, _ = server
    with pytest.raises(Stalled, match="404 where 200"):
        ask(port, [[request("POST", "/no", "hr_key", {})]], 200)
