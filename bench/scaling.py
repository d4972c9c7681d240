"""Scaling: jobs that miss what they are due at, and the hours of workers that are paid for, where the number of workers
follows `headrace_workers_wanted`, the length of the queue, or is fixed. Simulated, with seeded traffic of three kinds.

A worker does one job at a time. It is paid for from when it is asked for until it has left; it starts 45 to 75 seconds
later, and ends the job that it has in hand.
"""

import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from bench.ends import Say
from bench.report import Report, Row, report, row
from headrace_workers.core.ledger.counts import ReadyWork, WorkDone
from headrace_workers.core.ledger.worker_counts import ScaledQueue, scaled_queues
from headrace_workers.core.pipeline.scaling import QUIET_SECONDS, Peak, after_quiet

NAME = "scaling"
MOST = 30  # workers
_LOOK_EVERY: Final = 5
_SPEED: Final = 50.0  # tokens a second of one worker
_STARTS: Final = (45, 75)  # seconds from when a worker is asked for until it works
_PER_WORKER: Final = 10  # ready jobs for which the rule of queue length wants one worker
_QUEUE: Final = "model.m"


class Arrival(NamedTuple):
    """A job in the order of its urgency. Times are seconds since the beginning."""

    lane: int
    due: float
    at: int
    tokens: int


@dataclass
class World:
    """What a rule sees: the time, the ready jobs (a heap), the workers, and what was done since it looked last."""

    now: int = 0
    ready: list[Arrival] = field(default_factory=list)
    workers: int = 0
    busy: int = 0
    tokens_done: int = 0
    seconds_done: float = 0.0


Rule = Callable[[World], int]  # returns how many workers there are to be


def wanted_rule() -> Rule:
    """Return the rule of `headrace_workers_wanted`, which knows no rate at first."""
    queues: dict[str, ScaledQueue] = {}

    def rule(world: World) -> int:
        work = _ready_work(world)
        done = {_QUEUE: WorkDone(world.tokens_done, world.seconds_done)} if world.tokens_done else {}
        busy, alive = {_QUEUE: world.busy} if world.busy else {}, {_QUEUE: [1] * world.workers}
        found = scaled_queues(queues, float(world.now), work, busy, done, alive)
        queues.clear()
        queues.update(found)
        return found[_QUEUE].wanted

    return rule


def _ready_work(world: World) -> list[ReadyWork]:
    """Return what is ready as the ledger tells it: by the lane, and by when it is due in powers of two."""
    found: dict[tuple[int, int], ReadyWork] = {}
    for lane, due, _, tokens in world.ready:
        key = lane, max(0, int((due - world.now) // 15)).bit_length()
        same = found.get(key)
        found[key] = (
            ReadyWork(_QUEUE, lane, 1, tokens, 0, int(due * 1000))
            if same is None
            else same._replace(steps=same.steps + 1, tokens=same.tokens + tokens, due=min(same.due, int(due * 1000)))
        )
    return list(found.values())


def length_rule() -> Rule:
    """Return the rule of the queue's length, with the same quiet time before there are fewer workers."""
    peaks: tuple[Peak, ...] = ()

    def rule(world: World) -> int:
        nonlocal peaks
        wanted = max(math.ceil(len(world.ready) / _PER_WORKER), min(1, world.busy))
        peaks = after_quiet(peaks, float(world.now), wanted)
        return peaks[0].workers

    return rule


class Outcome(NamedTuple):
    """The share of jobs that ended late, and the hours of workers that were paid for."""

    missed: float
    hours: float


def simulate(arrivals: Sequence[Arrival], rule: Rule, seed: int = 7) -> Outcome:
    """Return the outcome of a rule on some traffic: a second at a time, until all jobs have ended."""
    rng, world, coming = random.Random(seed), World(), sorted(arrivals, key=lambda job: job.at, reverse=True)
    starting: list[int] = []  # when each of them works
    idle, busy = 0, list[int]()  # a heap of when each is idle again
    wanted, late, paid = 0, 0, 0
    while coming or world.ready or busy:
        while coming and coming[-1].at <= world.now:
            heapq.heappush(world.ready, coming.pop())
        while busy and busy[0] <= world.now:
            heapq.heappop(busy)
            idle += 1
        if world.now % _LOOK_EVERY == 0:
            world.workers, world.busy = idle + len(busy), len(busy)
            wanted = min(MOST, rule(world))
            world.tokens_done, world.seconds_done = 0, 0.0
        starting.extend(world.now + rng.randint(*_STARTS) for _ in range(wanted - idle - len(busy) - len(starting)))
        starting = sorted(starting)[: max(0, wanted - idle - len(busy))]
        idle += sum(at <= world.now for at in starting)
        starting = [at for at in starting if at > world.now]
        idle = min(idle, max(0, wanted - len(busy)))
        while idle and world.ready:
            job = heapq.heappop(world.ready)
            seconds = math.ceil(job.tokens / _SPEED)
            late += world.now + seconds > job.due
            world.tokens_done += job.tokens
            world.seconds_done += seconds
            heapq.heappush(busy, world.now + seconds)
            idle -= 1
        paid += idle + len(busy) + len(starting)
        world.now += 1
    return Outcome(late / len(arrivals), paid / 3600)


def _tokens(rng: random.Random, mean: float) -> int:
    return max(10, int(rng.lognormvariate(math.log(mean) - 0.18, 0.6)))


def burst() -> list[Arrival]:
    """Jobs that come one in 20 s for an hour, and 1,500 within a minute; each is due 15 minutes later."""
    rng = random.Random(1)
    times = [*range(0, 3_600, 20), *(1_200 + rng.randrange(60) for _ in range(1_500))]
    return [Arrival(0, at + 900.0, at, _tokens(rng, 150)) for at in times]


def slow_day(hours: int = 24) -> list[Arrival]:
    """Jobs over a day, of which most come at noon and hardly any at night; each is due 3 minutes later."""
    rng = random.Random(2)
    rates = (0.5 * max(0.0, math.sin(math.pi * (at / 3600 - 6) / 12)) ** 2 + 0.01 for at in range(hours * 3600))
    return [Arrival(0, at + 180.0, at, _tokens(rng, 150)) for at, rate in enumerate(rates) if rng.random() < rate]


def deadline_cliff() -> list[Arrival]:
    """A batch of 6,000 lines with a window of 8 hours; 5 hours later another of 4,000 lines that ends an hour before
    it.
    """
    rng = random.Random(3)
    return [
        *(Arrival(1, 8 * 3600.0, 0, _tokens(rng, 150)) for _ in range(6_000)),
        *(Arrival(1, 7 * 3600.0, 5 * 3600, _tokens(rng, 150)) for _ in range(4_000)),
    ]


TRAFFIC: Final = {"burst": burst, "slow day": slow_day, "deadline cliff": deadline_cliff}


def compare(arrivals: Sequence[Arrival]) -> dict[str, Outcome]:
    """Return the outcomes of the rules. One fixed number spends about as many hours as the wanted workers; the other is
    the least that misses no more.
    """
    wanted = simulate(arrivals, wanted_rule())
    span = max(job.due for job in arrivals) - min(job.at for job in arrivals)
    number = max(1, round(wanted.hours * 3600 / span))
    found = {
        "wanted": wanted,
        "queue length": simulate(arrivals, length_rule()),
        f"{number} fixed": simulate(arrivals, _fixed(number)),
    }
    while (outcome := simulate(arrivals, _fixed(number))).missed > wanted.missed:
        number += 1
    return found | {f"{number} fixed": outcome}


def _fixed(number: int) -> Rule:
    return lambda _: number


def bench(_say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """The rules on the three kinds of traffic (on bursts alone when quick)."""
    rows: list[Row] = []
    for name, traffic in TRAFFIC.items():
        if quick and name != "burst":
            continue
        for rule, outcome in compare(traffic()).items():
            target = {"at_most": 0.1} if rule == "wanted" else {}
            rows.append(row(f"{name}, {rule}: jobs that ended late", outcome.missed * 100, "%", **target))
            rows.append(row(f"{name}, {rule}: workers paid for", outcome.hours, "h"))
    return report(NAME, f"simulated; fewer workers after {QUIET_SECONDS:g} s", rows)
