"""Recovery: how long nothing comes when one thing breaks, and how soon it goes on when that is whole again.

A steady stream of interactive echo jobs runs through a deployment with one process a role and headrace's own settings.
Each fault is made once, alone, with the stream running; then everything must have ended before the next.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.chaos.deployment import Deployment
from tests.chaos.faults import Fault, faults_of
from tests.chaos.servers import Servers

from bench.ends import Say, Stalled
from bench.report import Report, Row, report, row
from headrace_schemas import HeadraceError, Topic

NAME = "recovery"
_EVERY = 0.05  # seconds between two jobs of the stream
_BREATH = 3.0  # seconds of the stream before a fault
_GIVE_UP = 120.0
_AT_MOST = 10.0
_TAKEN_IN = 2.0  # seconds


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """Every fault that these services can have, once (the kills of the bridge and of Redis alone when quick)."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    folder.chmod(0o755)  # PostgreSQL runs as another user
    try:
        with Servers.found(folder, embedded=embedded) as servers:
            deployment = servers.deployment(folder, lease=None)
            try:
                return report(NAME, servers.name, _measure(servers, deployment, say, quick))
            finally:
                deployment.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _measure(servers: Servers, deployment: Deployment, say: Say, quick: bool) -> list[Row]:
    deployment.prepare()
    deployment.start()
    rows: list[Row] = []
    with _stream(deployment) as stream:
        stream.wait_for(lambda: bool(stream.ended), "the first job ends")
        faults = [
            f for f in faults_of(servers, deployment) if not quick or f.name in ("bridge killed", "redis half-open")
        ]
        for fault in faults:
            rows += _one(fault, deployment, stream, say)
    return rows


def _one(fault: Fault, deployment: Deployment, stream: "_Stream", say: Say) -> list[Row]:
    time.sleep(_BREATH)
    struck = time.monotonic()
    fault.strike()
    while time.monotonic() < struck + fault.seconds:
        time.sleep(0.05)
        deployment.revive(but={fault.target})  # as a supervisor does
    fault.mend()
    mended = time.monotonic()
    rows = [] if fault.name != "bridge killed" else [_taken_in(fault, deployment, stream, mended)]
    stream.wait_for(lambda: stream.ended_of_those_sent_since(mended), f"a job ends after {fault.name} was mended",
                    deployment.revive)  # fmt: skip
    recovered = time.monotonic()
    caught = stream.open_jobs()
    stream.wait_for(lambda: not (caught & stream.open_jobs()), f"all jobs from before the end of {fault.name} end",
                    deployment.revive)  # fmt: skip
    last = time.monotonic()
    silence = stream.longest_silence(struck, recovered)
    say(f"{fault.name}: silent for {silence:.1f} s, went on {recovered - mended:.1f} s after it was mended")
    return [
        row(f"{fault.name}, for {fault.seconds:g} s: longest silence", silence, "s"),
        row(f"{fault.name}: a new job ended after it was mended", recovered - mended, "s", at_most=_AT_MOST),
        row(f"{fault.name}: the last job that it caught ended after it was mended", last - mended, "s"),
        *rows,
    ]


def _taken_in(fault: Fault, deployment: Deployment, stream: "_Stream", mended: float) -> Row:
    """When the ledger knew a job that was sent since, whether or not its events can be published already."""
    stream.wait_for(lambda: bool(deployment.known(stream.sent_since(mended))), f"a job is taken in after {fault.name}",
                    deployment.revive)  # fmt: skip
    metric = f"{fault.name}: a new job was taken in after it was mended"
    return row(metric, time.monotonic() - mended, "s", at_most=_TAKEN_IN)


class _Stream:
    """Jobs that are sent one after the other, and when each was sent and ended. Two threads; both die with it."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._sent: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self._threads = [threading.Thread(target=item, daemon=True) for item in (self._send, self._read)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End."""
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def wait_for(self, true: Callable[[], bool], what: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Wait; Stalled names what did not come."""
        until = time.monotonic() + _GIVE_UP
        while not true():
            if time.monotonic() > until:
                raise Stalled(f"not within {_GIVE_UP:g} s: {what}")
            meanwhile()
            time.sleep(0.02)

    def open_jobs(self) -> frozenset[str]:
        """Those that were sent and have not ended."""
        with self._lock:
            return frozenset(self._sent.keys() - self.ended.keys())

    def sent_since(self, moment: float) -> frozenset[str]:
        """Which were."""
        with self._lock:
            return frozenset(job for job, sent in self._sent.items() if sent >= moment)

    def ended_of_those_sent_since(self, moment: float) -> bool:
        """Whether any has."""
        with self._lock:
            return any(job in self.ended for job, sent in self._sent.items() if sent >= moment)

    def longest_silence(self, since: float, until: float) -> float:
        """Seconds between two ends, at most, from the first moment to the second."""
        with self._lock:
            times = sorted([since, *(at for at in self.ended.values() if since <= at <= until), until])
        return max(after - before for before, after in pairwise(times))

    def _send(self) -> None:
        # It waits long for a broker that is away: each job that it took is sent in the end.
        with self._deployment.producer(patience=_GIVE_UP) as producer:
            number = 0
            while not self._stop.wait(_EVERY):
                number += 1
                with suppress(HeadraceError):
                    sent = time.monotonic()
                    job = producer.generate(prompt=f"a river, number {number}", lane="interactive")
                    with self._lock:
                        self._sent[job] = sent

    def _read(self) -> None:
        from kafka import KafkaConsumer, TopicPartition
        from kafka.errors import KafkaError

        kafka = self._deployment.settings
        client: Any = KafkaConsumer(
            **kafka.client_options(),
            enable_auto_commit=False,
            reconnect_backoff_max_ms=200,
            request_timeout_ms=5_000,
        )
        names = (kafka.topic(Topic.RESULTS), kafka.topic(Topic.DEAD))
        parts = [TopicPartition(name, part) for name in names for part in client.partitions_for_topic(name) or ()]
        client.assign(parts)
        client.seek_to_beginning(*parts)
        while not self._stop.is_set():
            with suppress(KafkaError):
                for records in client.poll(timeout_ms=50).values():
                    with self._lock:
                        for record in records:
                            self.ended.setdefault((record.key or b"").decode(), time.monotonic())
        client.close(autocommit=False)


@contextmanager
def _stream(deployment: Deployment) -> Iterator[_Stream]:
    stream = _Stream(deployment)
    stream.start()
    try:
        yield stream
    finally:
        stream.stop()
