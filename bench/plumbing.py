"""Plumbing: what a job costs when the model costs nothing, beside Celery alone and two durable peers."""

import importlib.util
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.deployment import TWO_WORKERS, deployment
from bench.ends import Ends, Say, Stalled
from bench.flow import ECHO, Flow, echo_jobs, make_home, run
from bench.peers.process import ask, command
from bench.report import Report, Row, report, row, skipped
from bench.services import Services, services
from headrace_workers.runtime.embedded.child_processes import Child, ChildSpec, start, stop

NAME = "plumbing"
PROCESSES = 2  # worker processes of each side; bridge, broker and databases come on top
_WARM_UP = 500
_PEER_SECONDS = 900.0
_PEERS_DATABASE = "1"  # of the Redis: the same server, another keyspace


def bench(say: Say, *, quick: bool = False, embedded: bool = False, count: int | None = None) -> Report:
    """10,000 jobs (200 when quick) through the pipeline, and as many no-op tasks through each peer."""
    count = count or (200 if quick else 10_000)
    with services(embedded=embedded) as there:
        home = make_home(there.folder, ECHO)
        say(f"headrace: {count:,} echo jobs through three stages")
        with (
            deployment(there, home, [ECHO], TWO_WORKERS) as live,
            live.producer() as producer,
            Ends(live.kafka) as ends,
        ):
            run(producer, ends, list(echo_jobs(min(count, _WARM_UP))), say)
            before = cpu_seconds(live.pids)
            flow = run(producer, ends, list(echo_jobs(count)), say)
            cpu = cpu_seconds(live.pids) - before
        rows = [
            row("headrace: jobs published", flow.count / flow.published, "jobs/s"),
            row("headrace: jobs ended, publishing included (worker processes: generate; moderate and judge)",
                flow.rate, "jobs/s"),
            row("headrace: steps run", 3 * flow.rate, "steps/s"),
        ]  # fmt: skip
        rows += [
            row(f"headrace: CPU of {name}", 1000 * seconds / count, "s/1,000 jobs")
            for name, seconds in cpu.most_common()
        ]
        rows += _celery(there, count, flow, say)
        for peer in _DURABLE:
            rows += _durable(peer, there, count, flow, say)
        return report(NAME, there.stack, rows)


def cpu_seconds(pids: Mapping[str, int]) -> Counter[str]:
    """Return the CPU seconds that have been used until now by each of these processes, by the servers that this process
    started, and by this process, which publishes jobs and reads their ends.
    """
    names, this = {pid: name for name, pid in pids.items()}, psutil.Process()
    counter: Counter[str] = Counter()
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            own = "the producer and consumer" if process.pid == this.pid else process.name()
            times = process.cpu_times()
            counter[names.get(process.pid, own)] += times.user + times.system
    return counter


def _celery(there: Services, count: int, flow: Flow, say: Say) -> list[Row]:
    env = {"BENCH_REDIS": there.redis.rsplit("/", 1)[0] + f"/{_PEERS_DATABASE}"}
    there.empty_redis()
    say(f"Celery: {count:,} no-op tasks enqueued, then run by {PROCESSES} processes")
    enqueue = _peer("celery_peer", "enqueue", str(count), env=env)["seconds"]
    with ExitStack() as stack:
        _start_peer(stack, there, "celery-worker", _celery_worker(), env)
        ran = _drain(lambda: _peer_left(env), count, say)
    in_turn = count / (enqueue + ran)
    there.empty_redis()
    say(f"Celery: {count:,} no-op tasks enqueued while the workers run")
    with ExitStack() as stack:
        _start_peer(stack, there, "celery-worker", _celery_worker(), env)
        _peer("celery_peer", "enqueue", "50", env=env)  # the children are up when these are gone
        _drain(lambda: _peer_left(env), 50, say)
        begun = _peer("celery_peer", "enqueue", str(count), env=env)["begun"]
        _drain(lambda: _peer_left(env), 0, say)
        together = count / (time.monotonic() - begun)
    return [
        row("Celery: no-op tasks enqueued", count / enqueue, "tasks/s"),
        row(f"Celery: no-op tasks run by {PROCESSES} prefork children", count / ran, "tasks/s"),
        row("Celery: enqueued, then run", in_turn, "tasks/s"),
        row("Celery: enqueued while the workers run", together, "tasks/s"),
        row("headrace's jobs to Celery's tasks, enqueued and then run", flow.rate / in_turn, "ratio", at_least=2.0),
        row(
            "headrace's jobs to Celery's tasks, enqueued while the workers run",
            flow.rate / together,
            "ratio",
            at_least=1.2,
        ),
    ]


@dataclass(frozen=True, slots=True)
class _Durable:
    """A peer on the same PostgreSQL: its module here, which has `schema`, `VERB N` and `work`; what counts what is
    open; and how many it is given, where it is slow and steady."""

    name: str
    module: str
    verb: str
    unit: str
    left: str
    most: int | None = None


_DURABLE = (
    _Durable("procrastinate", "procrastinate_peer", "defer", "no-op tasks",
             "SELECT count(*) FROM procrastinate_jobs WHERE status IN ('todo', 'doing')"),
    _Durable("dbos", "dbos_peer", "enqueue", "workflows of three no-op steps",
             "SELECT count(*) FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING')", most=2_000),
)  # fmt: skip


def _durable(peer: _Durable, there: Services, count: int, flow: Flow, say: Say) -> list[Row]:
    if importlib.util.find_spec(peer.name) is None:
        return [skipped(peer.name, "it is not installed (dependency group bench)")]
    database = there.new_database()
    if database is None:
        return [skipped(peer.name, "there is no PostgreSQL")]
    count = min(count, peer.most or count)
    env = {"BENCH_POSTGRES": database.replace("+psycopg", "")}
    say(f"{peer.name}: {count:,} {peer.unit} put in, then run by {PROCESSES} processes")
    _peer(peer.module, "schema", "0", env=env)
    put_in = _peer(peer.module, peer.verb, str(count), env=env)["seconds"]
    with ExitStack() as stack:
        for number in range(PROCESSES):
            _start_peer(stack, there, f"{peer.name}-{number}", command(peer.module, "work"), env)
        ran = _drain(lambda: _rows_left(env["BENCH_POSTGRES"], peer.left), count, say, every=0.1)
    in_turn = count / (put_in + ran)
    return [
        row(f"{peer.name}: {peer.unit} put in, in batches", count / put_in, "jobs/s"),
        row(f"{peer.name}: {peer.unit} run by {PROCESSES} processes", count / ran, "jobs/s"),
        row(f"{peer.name}: {peer.unit} put in, then run", in_turn, "jobs/s"),
        row(f"headrace's jobs to {peer.name}'s {peer.unit}, put in and then run", flow.rate / in_turn, "ratio"),
    ]


def _celery_worker() -> list[str]:
    options = ["--concurrency", str(PROCESSES), "--pool", "prefork", "--loglevel", "WARNING"]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    return [sys.executable, "-m", "celery", "-A", "bench.peers.celery_peer", "worker", *options, *quiet]


def _peer(module: str, *arguments: str, env: dict[str, str]) -> dict[str, Any]:
    return ask(command(module, *arguments), {**os.environ, **env}, _PEER_SECONDS)


def _start_peer(stack: ExitStack, there: Services, name: str, argv: list[str], env: dict[str, str]) -> Child:
    log: Path = there.folder / "log"
    child = start(ChildSpec(name=name, argv=argv, env=env), log)
    stack.callback(stop, child)
    return child


def _peer_left(env: dict[str, str]) -> int:
    import redis

    with redis.Redis.from_url(env["BENCH_REDIS"]) as client:
        return int(client.llen("celery")) + int(client.hlen("unacked"))


def _rows_left(dsn: str, query: str) -> int:
    import psycopg

    with psycopg.connect(dsn) as connection:
        return int((connection.execute(query).fetchone() or (0,))[0])


def _drain(left: Callable[[], int], count: int, say: Say, *, every: float = 0.01) -> float:
    """Seconds from the first task that is taken (of `count`; 0: from now) until none is left.

    A worker's start is not counted. The few that the workers have taken but not ended are below what can be seen.
    """
    until = time.monotonic() + _PEER_SECONDS
    while count and left() >= count:
        _check(until)
        time.sleep(every / 10)
    begun = said = time.monotonic()
    while (open_tasks := left()) > 0:
        _check(until)
        if time.monotonic() - said > 5:
            said = time.monotonic()
            say(f"{open_tasks:,} tasks are left")
        time.sleep(every)
    return time.monotonic() - begun


def _check(until: float) -> None:
    if time.monotonic() > until:
        raise Stalled(f"the peer has not ended its tasks in {_PEER_SECONDS:g} s")
