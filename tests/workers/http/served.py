"""A real gateway in this process: uvicorn on a free port, on a thread of its own."""

import json
import select
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import httpx
from tests.services.eventually import eventually

from headrace_schemas import Answer, Category, DeadLetter, JudgeVerdict, ModerationVerdict, Result, Score, Usage
from headrace_schemas.event_types import type_of
from headrace_schemas.events import FinishReason
from headrace_schemas.grounding import Grounding
from headrace_schemas.output_format import Failure
from headrace_schemas.tool import ToolCall
from headrace_workers.core.identity import end_id
from headrace_workers.core.ledger.job_ends import finish, lock_active
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import outgoing
from headrace_workers.core.progress import Progress
from headrace_workers.core.scopes import Scope, all_scopes
from headrace_workers.core.sql.database import clock, writing
from headrace_workers.features.access.commands import new_key
from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.http.services import Services
from headrace_workers.http.timeouts import Timeouts
from headrace_workers.runtime.settings import Settings
from headrace_workers.wiring.build_gateway import build_gateway
from headrace_workers.wiring.gateway_app import build_app
from headrace_workers.wiring.http_server import Server, listen

# More than a busy machine takes. Tests of outages, which wait for a refusal, ask for less.
PATIENT = Timeouts(
    ledger=60.0, redis=60.0, admitted=60.0, begun=60.0, topics=60.0, room=60.0, silence=60.0, confirmed=60.0
)
IDLE = "idle"  # a model of the whole deployment that no worker runs: a job for it waits until somebody ends it


@dataclass(frozen=True)
class Gateway:
    """A gateway that is served at `url`, and what it works with."""

    url: str
    services: Services
    settings: Settings
    server: Server

    def key(self, tenant: str = "default", *scopes: Scope) -> str:
        """A new key of a tenant, with these scopes or all, and without a name."""
        token, kept = new_key(tenant, "", tuple(sorted(scopes or all_scopes())))
        self.services.ledger.of(ApiKeys).add(kept)
        return token.text

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        """A client with this key, else with one of the tenant `default` that may do all."""
        headers = {"authorization": f"Bearer {key or self.key()}", **options.pop("headers", {})}
        # No TLS here: to read all authorities' certificates costs as much as some requests.
        timeout = options.pop("timeout", 120.0)  # more than a gateway waits
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout, verify=False, **options)


_DOCUMENT: Final[dict[str, Any]] = {}


def described(gateway: Gateway) -> Mapping[str, Any]:
    """The OpenAPI document of a gateway. To build it takes longer than most tests; it is the same for all gateways."""
    if not _DOCUMENT:
        _DOCUMENT.update(build_app(gateway.services).openapi())
    return _DOCUMENT


@contextmanager
def served(
    settings: Settings,
    *,
    durable: bool = True,
    open_to: str | None = None,
    connected: bool = True,
    timeouts: Timeouts = PATIENT,
) -> Iterator[Gateway]:
    """A gateway of this deployment, drained at the end. With `connected`, once it has Kafka, be its
    topics there or not.
    """
    services = build_gateway(settings, Progress(), durable=durable, open_to=open_to, timeouts=timeouts)
    listening, ready = listen("127.0.0.1", 0), threading.Event()
    server = Server(services, listening, ready.set, grace=0.2)
    thread = threading.Thread(target=server.serve_until_told, name="gateway")
    thread.start()
    try:
        assert ready.wait(60)
        if connected:
            eventually(lambda: services.sink.trouble is None or "headrace init" in services.sink.trouble)
        yield Gateway(f"http://127.0.0.1:{listening.getsockname()[1]}", services, settings, server)
    finally:
        server.should_exit = True
        thread.join(60)
        listening.close()
    assert not thread.is_alive()


def told_unread(gateway: Gateway, path: str, *headers: str) -> bytes:
    """What is answered to a POST of which only the head comes: its body, of a thousand bytes, is never sent."""
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    lines = [f"POST {path.replace('{', '').replace('}', '')} HTTP/1.1", "Host: x", "Content-Length: 1000", *headers]
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall("".join(f"{line}\r\n" for line in (*lines, "Connection: close", "")).encode())
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def hang_up_while_waiting(gateway: Gateway, path: str, bodies: Sequence[object], headers: str = "") -> None:
    """As many clients as bodies begin to wait for answers, and hang up all at once. Nobody else may wait there.

    Who is refused meanwhile asks again: a gateway may have little patience.
    """
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    key = gateway.key()

    def ask(body: object) -> socket.socket:
        content = json.dumps(body)
        connection = socket.create_connection((host, int(port)))
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{headers}Content-Length: "
        connection.sendall(f"{head}{len(content)}\r\n\r\n{content}".encode())
        return connection

    connections = [ask(body) for body in bodies]

    def all_wait() -> bool:
        for number, connection in enumerate(connections):
            if _spoke(connection):
                connection.close()
                connections[number] = ask(bodies[number])
        return gateway.services.waiter.waiting == len(bodies)

    eventually(all_wait)
    for connection in connections:
        connection.close()
    eventually(lambda: gateway.services.waiter.waiting == 0)


def _spoke(connection: socket.socket) -> bool:
    """Whether the other side has said something, or hung up."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def answer(
    ledger: Ledger,
    job_id: str,
    text: str | None = "An answer.",
    scores: Sequence[Score] = (),
    finish_reason: FinishReason = "stop",
    tool_calls: Sequence[ToolCall] = (),
    grounding: Grounding | None = None,
) -> None:
    """End a job of the ledger's as a worker would, with this answer and these scores."""
    result = Result(
        job_id=job_id,
        tenant="default",
        status="completed",
        kind="generation",
        answer=Answer(
            text=text, finish_reason=finish_reason, model="echo", quantization="none", tool_calls=tuple(tool_calls),
            usage=Usage(prompt_tokens=7, completion_tokens=3), grounding=grounding,
        ),
        moderation=ModerationVerdict(action="allow"),
        judge=JudgeVerdict(scores=tuple(scores)),
        accepted_at=datetime(2026, 11, 26, tzinfo=UTC),
    )  # fmt: skip
    end_with(ledger, job_id, "done", result)


def fail(ledger: Ledger, job_id: str, failure: Failure, place: str | None = None) -> None:
    """End a job of the ledger's as a worker would, without an answer of the format that the job asks for."""
    letter = DeadLetter(
        job_id=job_id,
        tenant="default",
        category=Category.REROUTABLE,
        reason=f"the answer is {failure}",
        failure=failure,
        place=place,
        stage="generate",
        usage=Usage(prompt_tokens=7, completion_tokens=3),
        accepted_at=datetime(2026, 11, 26, tzinfo=UTC),
        topic="jobs.generation",
        size=2,
        original="{}",
        encoding="utf-8",
    )
    end_with(ledger, job_id, "dead", letter)


def end_with(ledger: Ledger, job_id: str, state: str, end: Result | DeadLetter) -> None:
    """End a job of the ledger's as a worker would, in this state and with this event."""
    with writing(ledger.engine) as tx:
        alive, now = lock_active(tx, [job_id]), clock(tx)
        assert job_id in alive
        event_id = end_id(job_id, type_of(end))
        record = outgoing(end, event_id=event_id, job_id=job_id, traceparent=None, correlationid=None, at_ms=now)
        finish(tx, state, [(job_id, record)], now, alive)
