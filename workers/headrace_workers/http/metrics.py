"""The figures of a gateway, in Prometheus' text format: a closed set. None names a key or a job, and a tenant only what
people's labels say of its jobs.

Each gateway counts for itself, from its start; the steps that are held and the metrics of features are the ledger's.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from headrace_workers.core.feature import installed
from headrace_workers.core.ledger.counts import held_steps
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.http.middleware import RequestLog

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


def metrics_of_ledger(connection: Connection) -> list[Metric]:
    """Return what the ledger knows: the steps that are held, and what features count."""
    held = GaugeMetricFamily(
        "headrace_held",
        "Steps that are held now, for a person or until a service works again.",
        labels=("stage", "waits_for"),
    )
    for held_step in held_steps(connection):
        held.add_metric((held_step.stage, "person" if held_step.needs_person else "service"), held_step.held)
    sources = [source for feature in installed() for source in feature.metrics()]
    return [held, *(metric for source in sources for metric in source(connection))]


class LedgerMetrics(LedgerStore):
    """The metrics that one ledger knows. Thread-safe. Unavailable when the database does not answer."""

    read = reads(metrics_of_ledger)


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
        self._known = _Known()
        self._registry.register(self._known)

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
        if (found := self._kinds.get(kind)) is None:
            found = self._kinds[kind] = self._jobs.labels(kind)
        found.inc()

    def text(self, *, waiting: int, up: dict[str, bool], known: Sequence[Metric]) -> bytes:
        """Return all metrics as text; `known` are the ledger's metrics, empty while it does not answer."""
        self._known.metrics = known
        self._waiting.set(waiting)
        for service, answers in up.items():
            self._up.labels(service).set(answers)
        return generate_latest(self._registry)


class _Known(Collector):
    """The metrics that the ledger had when they were last asked for."""

    def __init__(self) -> None:
        self.metrics: Sequence[Metric] = ()

    def collect(self) -> Iterator[Metric]:
        yield from self.metrics
