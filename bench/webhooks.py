"""Webhooks: how many a second, how soon after a job's end, and whether dead receivers delay living ones."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select

from bench.deployment import TWO_WORKERS, Deployment, deployment
from bench.ends import Ends, Say, Stalled
from bench.floor import floor
from bench.flow import ECHO, make_home
from bench.report import Report, Row, percentile, report, row
from bench.services import Services, services
from headrace_workers.embedded.ports import free_ports
from headrace_workers.ledger.database import writing
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.ledger.tables import JOBS
from headrace_workers.ledger.webhook_tables import DELIVERIES
from headrace_workers.webhooks import registering
from headrace_workers.webhooks.courier import Courier, Letter
from headrace_workers.webhooks.reach import Reach
from headrace_workers.webhooks.sealing import Sealer
from headrace_workers.webhooks.signing import new_secret
from headrace_workers.wire.bell import Bell, Hint
from headrace_workers.wire.redis_client import redis_client
from headrace_workers.wire.redis_names import RedisNames

NAME = "webhooks"
_WORKERS = {**TWO_WORKERS, "deliver": ["--role", "deliver"]}
_HERE = Reach(http_loopback=True)
_STALL_SECONDS = 120.0
_RECEIVERS, _DEAD = 100, 10


class Sizes(NamedTuple):
    """How much is sent: at once to one receiver; jobs one at a time; rounds to a hundred receivers."""

    burst: int
    singles: int
    rounds: int


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """10,000 at once to one receiver, 200 ends one at a time, and 30 rounds to 100 receivers, of which 10 are dead."""
    sizes = Sizes(300, 10, 3) if quick else Sizes(10_000, 200, 30)
    with services(embedded=embedded) as there:
        home = make_home(there.folder, ECHO)
        with _receiver() as base, deployment(there, home, [ECHO], _WORKERS, HEADRACE_WEBHOOK_HTTP="loopback") as live:
            ledger = Ledger.at(live.ledger)
            bell = Bell(redis_client(there.redis), RedisNames(live.kafka.prefix).bell)
            rows = _burst(ledger, bell, base, sizes.burst, say)
            rows += _singles(there, live, ledger, base, sizes.singles, say)
            rows += _beside_dead(ledger, bell, base, sizes.rounds, say)
            ledger.close()
        return report(NAME, there.stack, rows)


def _burst(ledger: Ledger, bell: Bell, base: str, count: int, say: Say) -> list[Row]:
    say(f"{count:,} at once to one receiver")
    _register(ledger, f"{base}/burst", "burst")
    _announce(ledger, bell, "burst", [f"burst-{number}" for number in range(count)])
    arrived = sorted(at for _, _, at in _all(base, count, say))
    return [row(f"{count:,} to one receiver", (count - 1) / (arrived[-1] - arrived[0]), "deliveries/s")]


def _singles(there: Services, live: Deployment, ledger: Ledger, base: str, count: int, say: Say) -> list[Row]:
    say(f"{count} jobs one at a time, from the end to the receiver, and the floor in turns")
    took, least = [], []
    courier, letter = Courier(_HERE), Letter("m", f"{base}/floor", b"{}" * 200, (new_secret("v1"),))
    with live.producer() as producer, Ends(live.kafka) as ends, floor(there) as parts:
        for turn in range(-3, count):
            url = f"{base}/single?turn={turn}"
            job_id = producer.generate(model=ECHO, prompt="Is the ferry late?", max_tokens=8, callback={"url": url})
            producer.flush()
            ends.wait([job_id], say)
            ((_, _, at),) = _all(base, 1, say)
            (ended,) = ledger.read(select(JOBS.c.ended_at).where(JOBS.c.id == job_id))
            alone = parts()
            begun = time.perf_counter()
            courier.send("floor", [letter], probing=True, patience=1)
            post = 1000 * (time.perf_counter() - begun)
            _all(base, 1, say)
            if turn >= 0:
                took.append(1000 * at - ended.ended_at)
                least.append(alone["hasty commit"] * 2 + alone["hand-over"] + post)
    at_50, at_99 = percentile(took, 50), percentile(took, 99)
    return [
        row(f"floor: two commits, a hand-over and a POST, p50 of {count}", percentile(least, 50), "ms"),
        row(f"end of a job to its first attempt, p50 of {count}", at_50, "ms"),
        row(f"end of a job to its first attempt, p99 of {count}", at_99, "ms"),
        row("the same to the floor, p50", at_50 / percentile(least, 50), "ratio"),
        row("the same to the floor, p99", at_99 / percentile(least, 99), "ratio", at_most=2.0),
    ]


def _beside_dead(ledger: Ledger, bell: Bell, base: str, rounds: int, say: Say) -> list[Row]:
    """One event a round, told to all receivers: first all live, then ten of them hang."""
    living = _RECEIVERS - _DEAD
    for number in range(living):
        _register(ledger, f"{base}/live/{number}", "rounds", name=str(number))
    healthy = _rounds(ledger, bell, base, "all", living, rounds, say)
    for number in range(_DEAD):
        _register(ledger, f"{base}/dead/{number}", "rounds", name=f"dead {number}")
    beside = _rounds(ledger, bell, base, "beside", living, rounds, say)
    return [
        row(f"{living} living receivers alone, p99 from the event", percentile(healthy, 99), "ms"),
        row(f"beside {_DEAD} that hang, p99 from the event", percentile(beside, 99), "ms"),
        row("beside dead to alone, p99", percentile(beside, 99) / percentile(healthy, 99), "ratio", at_most=1.1),
    ]


def _rounds(ledger: Ledger, bell: Bell, base: str, name: str, living: int, rounds: int, say: Say) -> list[float]:
    say(f"{rounds} rounds to {living} living receivers ({name})")
    took = []
    for number in range(rounds):
        _announce(ledger, bell, "rounds", [f"{name}-{number}"])
        seen = _all(base, living, say)
        made = dict(ledger.read(select(DELIVERIES.c.id, DELIVERIES.c.created_at)))
        took += [1000 * at - made[message] for _, message, at in seen]
    return took


def _register(ledger: Ledger, url: str, tenant: str, name: str = "") -> None:
    wanted = registering.Wanted(tenant=tenant, url=url, events=("batch.completed",), name=name)
    registering.register(ledger.webhooks, Sealer(), _HERE, wanted)


def _announce(ledger: Ledger, bell: Bell, tenant: str, subjects: list[str]) -> None:
    with writing(ledger.engine) as tx:
        for subject in subjects:
            ledger.webhooks.announce(tx, tenant=tenant, event_type="batch.completed", subject=subject)
    bell.ring(Hint.WORK)


@contextmanager
def _receiver() -> Iterator[str]:
    """A receiver; its address."""
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.receiver", str(port)], cwd=Path(__file__).parents[1], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _all(base: str, count: int, say: Say) -> list[tuple[str, str, float]]:
    """Wait for so many, and take them: path, `webhook-id`, and when by the wall clock."""
    begun = said = time.monotonic()
    while (found := int(_ask(f"{base}/count"))) < count:
        now = time.monotonic()
        if now - begun > _STALL_SECONDS:
            raise Stalled(f"{found} of {count} webhooks came in {_STALL_SECONDS:g} s")
        if now - said > 5:
            said = now
            say(f"{found:,} of {count:,} came")
        time.sleep(0.005)
    lines = [line.split(" ") for line in _ask(f"{base}/seen").splitlines()]
    return [(path, message, float(at)) for path, message, at in lines]


def _ask(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()
