"""The gateway: what it costs beside an application that only says yes, and what waiting at it costs."""

import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from bench.asking import Answer, ask, chat, connection, request
from bench.deployment import TWO_WORKERS, Deployment, deployment
from bench.ends import Ends, Say
from bench.flow import ECHO, ECHO_TOKENS, SMOLLM2, make_home
from bench.gateway_bulk import beside_bulk
from bench.gateway_waiting import many_wait
from bench.peers.process import command
from bench.report import Report, Row, percentile, report, row
from bench.services import Services, services
from headrace_producers import Producer
from headrace_workers.runtime.embedded.child_processes import ChildSpec, start, stop
from headrace_workers.runtime.embedded.free_ports import free_ports

NAME = "gateway"
_CONNECTIONS = 32
_WARM_UP = 20
_RATE = "1000000"  # a second that a tenant may ask: counted as ever, and never reached
_JOB = {"model": ECHO, "prompt": "Is the ferry late today?", "sampling": {"max_tokens": ECHO_TOKENS}}
_CHAT = {
    "model": ECHO,
    "messages": [{"role": "user", "content": "Is the ferry late today?"}],
    "max_completion_tokens": ECHO_TOKENS,
}


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """Jobs let in over 32 connections; echo answers one at a time; 1,000 requests that wait; answers beside a batch."""
    with services(embedded=embedded) as there:
        home = make_home(there.folder, ECHO)
        (port,) = free_ports(1)
        with (
            deployment(there, home, [], {}, gateway=port, HEADRACE_RATE=_RATE) as live,
            _peer(there, "plain_app") as plain,
        ):
            key = live.door_key()
            with _peer(there, "promising_app", live.env) as promising:
                rows = _let_in(port, plain, promising, key, (2, 5) if quick else (5, 50), say)
            rows += many_wait(there, live, port, plain, key, (1, 20) if quick else (5, 100), say)
        with deployment(there, home, [ECHO], TWO_WORKERS, gateway=port) as live:
            rows += _answers(live, port, live.door_key(), 20 if quick else 300, say)
        say("the model is made ready")
        home = make_home(there.folder, SMOLLM2)
        with deployment(there, home, [SMOLLM2], TWO_WORKERS, gateway=port) as live:
            rows += beside_bulk(live, home, port, live.door_key(), (4, 48) if quick else (40, 512), say)
        return report(NAME, there.stack, rows)


def _let_in(port: int, plain: int, promising: int, key: str, sizes: tuple[int, int], say: Say) -> list[Row]:
    """The same requests to all three, in turns; the first turn warms up."""
    turns, each = sizes
    say(f"POST /v1/jobs over {_CONNECTIONS} connections, {turns} turns of {_CONNECTIONS * each:,}")
    asked = [[request("POST", "/v1/jobs", key, _JOB)] * each] * _CONNECTIONS
    found: dict[int, list[list[Answer]]] = {plain: [], promising: [], port: []}
    for turn in range(turns + 1):
        for place, answers in found.items():
            got = [answer for answers in ask(place, asked, 202) for answer in answers]
            if turn:
                answers.append(got)
    rates = {place: sum(map(len, answers)) / sum(map(_seconds, answers)) for place, answers in found.items()}
    rows = []
    for place, name in (
        (plain, "an application that only validates"),
        (promising, "one that also publishes the job and writes its row"),
        (port, "the gateway"),
    ):
        took = [answer.ms for answers in found[place] for answer in answers]
        rows += [
            row(f"{name}: POST /v1/jobs over {_CONNECTIONS} connections", rates[place], "requests/s"),
            row(f"{name}: the same, p50", percentile(took, 50), "ms"),
            row(f"{name}: the same, p99", percentile(took, 99), "ms"),
        ]
    return [
        *rows,
        row("the gateway's requests/s to the application's", rates[port] / rates[plain], "ratio", at_least=0.5),
        row("the same to one that also publishes and writes", rates[port] / rates[promising], "ratio"),
        row("that one's to the application's", rates[promising] / rates[plain], "ratio"),
    ]


def _seconds(answers: list[Answer]) -> float:
    return max(answer.at for answer in answers) - min(answer.sent for answer in answers)


def _answers(live: Deployment, port: int, key: str, count: int, say: Say) -> list[Row]:
    say(f"{count} echo answers one at a time, by chat.completions and by Kafka in turns")
    chats, native = [], []
    with live.producer() as producer, Ends(live.kafka) as ends, connection(port) as http_:
        for turn in range(-_WARM_UP, count):
            begun = time.perf_counter()
            chat(http_, key, _CHAT)
            between = time.perf_counter()
            _native(producer, ends, say)
            if turn >= 0:
                chats.append(1000 * (between - begun))
                native.append(1000 * (time.perf_counter() - between))
    at_50, native_50 = percentile(chats, 50), percentile(native, 50)
    return [
        row(f"echo by Kafka, from generate() to the decoded result, p50 of {count}", native_50, "ms"),
        row(f"echo by chat.completions, p50 of {count}", at_50, "ms"),
        row(f"echo by chat.completions, p99 of {count}", percentile(chats, 99), "ms"),
        row("chat.completions to Kafka, p50", at_50 / native_50, "ratio", at_most=1.2),
    ]


def _native(producer: Producer, ends: Ends, say: Say) -> None:
    job_id = producer.generate(
        model=ECHO, prompt="Is the ferry late today?", max_tokens=ECHO_TOKENS, lane="interactive"
    )
    ends.wait({job_id}, say, keep=True)


@contextmanager
def _peer(there: Services, module: str, env: Mapping[str, str] | None = None) -> Iterator[int]:
    """An application beside the gateway; its port."""
    (port,) = free_ports(1)

    def ready() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    spec = ChildSpec(name=module, argv=command(module, str(port)), ready=ready)
    child = start(spec, there.folder / "log", env=env)
    try:
        yield port
    finally:
        stop(child)
