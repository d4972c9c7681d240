"""The figures of a gateway, in Prometheus' text format: a closed set. None names a key or a job, and a tenant only what
people's labels say of its jobs.

Each gateway counts for itself, from its start; the metrics of the ledger and of features are those that a bridge wrote
down last (core/ledger/metrics.py).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from headrace_workers.core.ledger.metrics import Snapshot, gauge
from headrace_workers.http.errors import LedgerOutage
from headrace_workers.http.middleware import RequestLog

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
READ_EVERY: Final = 2.0  # seconds between two questions to the ledger
READ_PATIENCE: Final = 0.5  # seconds that a scrape waits for the answer: the next one has it
AGE: Final = "headrace_ledger_metrics_age_seconds", "Time since a bridge last looked at the ledger for its metrics."
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


class LedgerMetricsReader:
    """The metrics of the ledger that a gateway shows: those that a bridge wrote down last. Belongs to one event loop.

    `read` asks the ledger; it raises LedgerOutage. However many scrapes there are, the ledger is asked once in a few
    seconds. While it does not answer, the last metrics stay, and no scrape waits for it.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[Snapshot | None]],
        *,
        every: float = READ_EVERY,
        patience: float = READ_PATIENCE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._every = every
        self._patience = patience
        self._monotonic = monotonic
        self._reading: asyncio.Task[None] | None = None
        self._asked_at = self._written_at = float("-inf")
        self._text = b""

    async def text(self) -> bytes:
        """Return the metrics as text, with their age; infinite if there are none."""
        now = self._monotonic()
        if self._reading is None and now - self._asked_at >= self._every:
            self._asked_at = now
            self._reading = asyncio.create_task(self._renew())
        if self._reading is not None and (patience := self._asked_at + self._patience - now) > 0:
            await asyncio.wait((self._reading,), timeout=patience)
        age = self._monotonic() - self._written_at
        return self._text + generate_latest(_Families([gauge(*AGE, (), [[round(age, 1)]])]))

    async def _renew(self) -> None:
        try:
            snapshot = await self._read()
            if snapshot is not None:
                self._text = generate_latest(_Families(snapshot.metrics))
                self._written_at = self._monotonic() - snapshot.age_ms / 1000
        except LedgerOutage:  # the metrics of before stay
            pass
        finally:
            self._reading = None


class _Families(Collector):
    """Metrics that were collected before."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


class Metrics:
    """The counters of this gateway. Thread-safe."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        # The route is the declared path, or "-" for an unknown one.
        self._requests = Counter(
            "headrace_gateway_requests",
            "Requests that ended. Status 0: the client hung up before the answer.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "headrace_gateway_request_seconds", "Seconds that requests took, including the wait for jobs.", ("route",),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._bytes = Counter(
            "headrace_gateway_bytes", "Bytes of bodies, in and out.", ("direction",), registry=self._registry
        )
        self._in, self._out = self._bytes.labels("in"), self._bytes.labels("out")
        self._found: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._jobs = Counter("headrace_gateway_jobs", "Jobs that were admitted.", ("kind",), registry=self._registry)
        self._kinds: dict[str, Counter] = {}
        # Reasons: `Why` in errors.py.
        self._refused = Counter(
            "headrace_gateway_refused", "Requests that were refused, by reason.", ("why",), registry=self._registry
        )
        self._waiting = Gauge(
            "headrace_gateway_waiting", "Jobs whose end a client waits for now.", registry=self._registry
        )
        self._up = Gauge(
            "headrace_gateway_up",
            "Whether a service answered when it was last needed: kafka, ledger, redis.",
            ("service",),
            registry=self._registry,
        )

    def visited(self, visit: RequestLog, route: str) -> None:
        """Count a request that has ended."""
        method = visit.method if visit.method in _METHODS else "other"
        requests, seconds = self._of(route, method, visit.status)
        requests.inc()
        seconds.observe(visit.seconds)
        self._in.inc(visit.received)
        self._out.inc(visit.sent)
        if visit.why is not None:
            self._refused.labels(visit.why).inc()

    def _of(self, route: str, method: str, status: int) -> tuple[Counter, Histogram]:
        """Return the counters of such requests. Finding them by their labels takes longer than counting."""
        key = route, method, status
        if key not in self._found:
            self._found[key] = self._requests.labels(route, method, str(status)), self._seconds.labels(route)
        return self._found[key]

    def count_admitted(self, kind: str) -> None:
        """Count a job that was admitted."""
        if (counter := self._kinds.get(kind)) is None:
            counter = self._kinds[kind] = self._jobs.labels(kind)
        counter.inc()

    def text(self, *, waiting: int, up: dict[str, bool]) -> bytes:
        """Return all metrics as text."""
        self._waiting.set(waiting)
        for service, answers in up.items():
            self._up.labels(service).set(answers)
        return generate_latest(self._registry)
