"""Asking a server from a process of its own, over as many connections as are wanted."""

import http.client
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from bench.ends import Stalled
from bench.peers.process import command

_SECONDS = 300.0


class Answer(NamedTuple):
    """When a request was sent and answered, in seconds by the machine's clock, and with which status."""

    sent: float
    at: float
    status: int

    @property
    def ms(self) -> float:
        """How long it took."""
        return 1000 * (self.at - self.sent)


class Asking:
    """A client that is connected."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def go(self) -> None:
        """Send the first request of each connection."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def answers(self, status: int) -> list[list[Answer]]:
        """Wait until all are answered; the answers by connection. Stalled where one has another status."""
        told, _ = self._process.communicate(timeout=_SECONDS)
        if self._process.returncode:
            raise Stalled("the client that asks failed: see above")
        found = [[Answer(*answer) for answer in answers] for answers in json.loads(told)["answers"]]
        if wrong := {answer.status for answers in found for answer in answers} - {status}:
            raise Stalled(f"it answered {min(wrong)} where {status} was expected")
        return found


@contextmanager
def asking(port: int, connections: Sequence[Sequence[str]]) -> Iterator[Asking]:
    """A client whose connections send these requests, each one after the other, once it is told to go."""
    with TemporaryDirectory(prefix="headrace-bench-") as folder:
        file = Path(folder) / "question.json"
        file.write_text(json.dumps({"port": port, "connections": connections}), encoding="utf-8")
        argv = command("http_client", str(file))
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                if process.stdout.readline() != "ready\n":
                    raise Stalled("the client that asks could not connect: see above")
                yield Asking(process)
            finally:
                process.kill()


def ask(port: int, connections: Sequence[Sequence[str]], status: int) -> list[list[Answer]]:
    """Send these requests, and wait for their answers."""
    with asking(port, connections) as client:
        client.go()
        return client.answers(status)


def request(method: str, path: str, key: str, body: object = None) -> str:
    """A request with this key and, as JSON, this body."""
    content = "" if body is None else json.dumps(body)
    head = [f"{method} {path} HTTP/1.1", "host: 127.0.0.1", f"authorization: Bearer {key}"]
    if content:
        head += ["content-type: application/json", f"content-length: {len(content)}"]
    return "\r\n".join([*head, "", content])


@contextmanager
def connection(port: int) -> Iterator[http.client.HTTPConnection]:
    """A connection of this process."""
    made = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    made.connect()
    try:
        yield made
    finally:
        made.close()


def chat(made: http.client.HTTPConnection, key: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a chat completion. Stalled where there is none."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    made.request("POST", "/v1/chat/completions", json.dumps(body).encode(), headers)
    with made.getresponse() as response:
        told: dict[str, Any] = json.loads(response.read())
    if response.status != 200:
        raise Stalled(f"chat.completions answered {response.status}: {told}")
    return told
