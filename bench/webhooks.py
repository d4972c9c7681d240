"""Webhooks: how many a second, how soon after a job's end, and whether dead receivers delay living ones."""

import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from statistics import median
from typing import NamedTuple

from sqlalchemy import select

from bench.deployment import TWO_WORKERS, Deployment, deployment
from bench.ends import Say, Stalled
from bench.floor import floor
from bench.flow import ECHO, make_home
from bench.report import Report, Row, percentile, report, row
from bench.services import Services, services
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.redis import RedisNames, redis_client
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.webhooks import registering
from headrace_workers.features.webhooks.sender import Letter, Sender
from headrace_workers.features.webhooks.signing import Sealer, new_secret
from headrace_workers.features.webhooks.store.deliveries import Range
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.tables import DELIVERIES
from headrace_workers.features.webhooks.targets import Reach
from headrace_workers.runtime.embedded.free_ports import free_ports
from headrace_workers.runtime.wire.hints import Hint, Notifier

NAME = "webhooks"
_WORKERS = {**TWO_WORKERS, "deliver": ["--role", "deliver"]}
_HERE = Reach(http_loopback=True)
_STALL_SECONDS = 120.0
_RECEIVERS, _DEAD = 100, 10
_WARM_UP = 5
_BLOCKS = ("live", "hang", "hang", "live", "live", "hang")  # each kind once at either end
_DRAWS = 2_000
_SEED = 20261126
_LOOK_SECONDS = 0.5


class Sizes(NamedTuple):
    """How much is sent: at once to one receiver; jobs one at a time; rounds to a hundred receivers."""

    burst: int
    singles: int
    rounds: int


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """10,000 at once to one receiver, 300 ends one at a time, and 120 rounds to 100 receivers, of which 10 may hang."""
    sizes = Sizes(300, 40, 12) if quick else Sizes(10_000, 300, 120)
    with services(embedded=embedded) as there:
        home = make_home(there.folder, ECHO)
        with _receiver() as base, deployment(there, home, [ECHO], _WORKERS, HEADRACE_WEBHOOK_HTTP="loopback") as live:
            ledger = Ledger.at(live.ledger)
            bell = Notifier(redis_client(there.redis), RedisNames(live.kafka.prefix).hints)
            rows = _burst(ledger, bell, base, sizes.burst, say)
            rows += _singles(there, live, ledger, base, sizes.singles, say)
            rows += _beside_dead(ledger, bell, base, sizes.rounds, say)
            ledger.close()
        return report(NAME, there.stack, rows)


def _burst(ledger: Ledger, bell: Notifier, base: str, count: int, say: Say) -> list[Row]:
    say(f"{count:,} at once to one receiver")
    _register(ledger, f"{base}/burst", "burst")
    _announce(ledger, bell, "burst", [f"burst-{number}" for number in range(count)])
    arrived = sorted(at for _, _, at in _all(base, "burst", count, say))
    return [row(f"{count:,} to one receiver", (count - 1) / (arrived[-1] - arrived[0]), "deliveries/s")]


def _singles(there: Services, live: Deployment, ledger: Ledger, base: str, count: int, say: Say) -> list[Row]:
    say(f"{count} jobs one at a time, from the end to the receiver, and the floor in turns")
    took, least = [], []
    sender, letter = Sender(_HERE), Letter("m", f"{base}/floor", b"{}" * 200, (new_secret("v1"),))
    with live.producer() as producer, floor(there) as parts:
        for turn in range(-_WARM_UP, count):
            url = f"{base}/single?turn={turn}"
            job_id = producer.generate(model=ECHO, prompt="Is the ferry late?", max_tokens=8, callback={"url": url})
            producer.flush()
            ((_, _, at),) = _all(base, "single", 1, say)
            (ended,) = ledger.read(select(JOBS.c.ended_at).where(JOBS.c.id == job_id))
            alone = parts()
            begun = time.perf_counter()
            sender.send("floor", [letter], probing=False, patience=1)
            post = 1000 * (time.perf_counter() - begun)
            _all(base, "floor", 1, say)
            if turn >= 0:
                took.append(1000 * at - ended.ended_at)
                least.append(alone["commit"] + 2 * alone["hasty commit"] + alone["hand-over"] + post)
    at_50, at_99 = percentile(took, 50), percentile(took, 99)
    least_50, least_99 = percentile(least, 50), percentile(least, 99)
    return [
        row(f"floor: three commits, a hand-over and a POST, p50 of {count}", least_50, "ms"),
        row(f"floor: three commits, a hand-over and a POST, p99 of {count}", least_99, "ms"),
        row(f"end of a job to its first attempt, p50 of {count}", at_50, "ms"),
        row(f"end of a job to its first attempt, p99 of {count}", at_99, "ms"),
        row("the same to the floor, p50", at_50 / least_50, "ratio"),
        row("the same to the floor, p99", at_99 / least_99, "ratio", at_most=2.0),
    ]


def _beside_dead(ledger: Ledger, bell: Notifier, base: str, rounds: int, say: Say) -> list[Row]:
    """One event a round, told to all receivers; ten of them live in some blocks of rounds, and hang in the others, so
    that a machine that becomes slower meanwhile does so for both. The times of the others count.
    """
    living = _RECEIVERS - _DEAD
    for number in range(living):
        _register(ledger, f"{base}/live/{number}", "rounds", name=str(number))
    mortal = [_register(ledger, f"{base}/mortal/{number}", "rounds", name=f"m{number}") for number in range(_DEAD)]
    _rounds(ledger, bell, base, "warm", living, _WARM_UP)
    found: dict[str, list[list[float]]] = {"live": [], "hang": []}
    for block, state in enumerate(_BLOCKS):
        say(f"{rounds // len(_BLOCKS)} rounds to {living} receivers, beside {_DEAD} that {state}")
        for number, endpoint_id in enumerate(mortal):
            kind = "mortal" if state == "live" else "dead"
            ledger.of(Webhooks).change(endpoint_id, {"url": f"{base}/{kind}/{number}"})
            ledger.of(Webhooks).enable(endpoint_id)
        if state == "live":
            _quiet(ledger, bell, base)
        found[state] += _rounds(ledger, bell, base, f"{block}-{state}", living, rounds // len(_BLOCKS))
    each = f"of {len(found['live'])} rounds to {living} living receivers"
    rows = []
    for state, times in found.items():
        rows += [
            row(
                f"beside {_DEAD} that {state}, from the event, p{quantile} {each}",
                percentile(list(chain.from_iterable(times)), quantile),
                "ms",
            )
            for quantile in (50, 99)
        ]
    ratio, low, high = _ratio(found["hang"], found["live"])
    return [
        *rows,
        row("beside hanging ones to beside living ones, p99 of a round, median", ratio, "ratio", at_most=1.1),
        row("the same, lower end of its 95 % interval", low, "ratio"),
        row("the same, upper end", high, "ratio"),
    ]


def _ratio(ours: list[list[float]], theirs: list[list[float]]) -> tuple[float, float, float]:
    """The medians of the rounds' p99 to each other, and the bootstrap's interval for that: rounds are drawn anew."""
    dice = random.Random(_SEED)
    one, other = ([percentile(times, 99) for times in rounds] for rounds in (ours, theirs))
    drawn = [median(dice.choices(one, k=len(one))) / median(dice.choices(other, k=len(other))) for _ in range(_DRAWS)]
    return median(one) / median(other), percentile(drawn, 2.5), percentile(drawn, 97.5)


def _quiet(ledger: Ledger, bell: Notifier, base: str) -> None:
    """Wait until nothing is on its way: what hung has lost its patience, and was taken when it was tried again."""
    begun = time.monotonic()
    while ledger.of(Webhooks).deliveries(Range(tenant="rounds"), 1, "pending"):
        if time.monotonic() - begun > _STALL_SECONDS:
            raise Stalled(f"webhooks are still on their way after {_STALL_SECONDS:g} s")
        bell.notify(Hint.WORK)
        time.sleep(_LOOK_SECONDS)
    _ask(f"{base}/seen")


def _rounds(ledger: Ledger, bell: Notifier, base: str, name: str, living: int, rounds: int) -> list[list[float]]:
    """Milliseconds from the event to each living receiver, round by round."""
    took = []
    for number in range(rounds):
        subject = f"{name}-{number}"
        _announce(ledger, bell, "rounds", [subject])
        seen = _all(base, "live", living, lambda _: None)
        query = select(DELIVERIES.c.id, DELIVERIES.c.created_at).where(DELIVERIES.c.subject == subject)
        made = dict(ledger.read(query))
        took.append([1000 * at - made[message] for path, message, at in seen if path.startswith("/live/")])
    return took


def _register(ledger: Ledger, url: str, tenant: str, name: str = "") -> str:
    wanted = registering.Wanted(tenant=tenant, url=url, events=("batch.completed",), name=name)
    return registering.register(ledger.of(Webhooks), Sealer(), _HERE, wanted).endpoint.id


def _announce(ledger: Ledger, bell: Notifier, tenant: str, subjects: list[str]) -> None:
    with writing(ledger.engine) as tx:
        for subject in subjects:
            ledger.of(Webhooks).announce(tx, tenant=tenant, event_type="batch.completed", subject=subject)
    bell.notify(Hint.WORK)


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


def _all(base: str, kind: str, count: int, say: Say) -> list[tuple[str, str, float]]:
    """Wait for so many below this path, and take all: path, `webhook-id`, and when by the wall clock."""
    begun = time.monotonic()
    while (number := int(_ask(f"{base}/wait/{kind}/{count}"))) < count:
        if time.monotonic() - begun > _STALL_SECONDS:
            raise Stalled(f"{number} of {count} webhooks came in {_STALL_SECONDS:g} s")
        say(f"{number:,} of {count:,} came")
    lines = [line.split(" ") for line in _ask(f"{base}/seen").splitlines()]
    return [(path, message, float(at)) for path, message, at in lines]


def _ask(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()
