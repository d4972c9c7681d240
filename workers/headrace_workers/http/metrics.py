"""The figures of a gateway, in Prometheus' text format: a closed set. None names a key or a job, and a tenant only what
people's labels say of its jobs.

Each gateway counts for itself, from its start; pass rates, scores and what is held are the ledger's.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import Row

from headrace_workers.core.ledger.counts import Figures
from headrace_workers.features.judging.store.score_counts import ScoreCount
from headrace_workers.http.middleware import Visit

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})


_OF_A_RATE: Final = ("tenant", "criterion", "version")
_RATES: Final = {
    "": "The share of jobs that people would say pass.",
    "_low": "The lower end of its interval.",
    "_high": "The upper end of its interval.",
    "_labels": "Jobs that people labelled.",
}


class Metrics:
    """Counts what this gateway did. Thread-safe."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        # Requests that ended, by the path of their route ("-": there is none), method, and status ("0": the client hung
        # up before it was answered).
        self._requests = Counter(
            "headrace_gateway_requests", "Requests that ended.", ("route", "method", "status"), registry=self._registry
        )
        # How long they took, waiting for jobs included.
        self._seconds = Histogram(
            "headrace_gateway_request_seconds", "How long requests took.", ("route",),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        # Bytes of bodies, in and out.
        self._bytes = Counter("headrace_gateway_bytes", "Bytes of bodies.", ("direction",), registry=self._registry)
        self._in, self._out = self._bytes.labels("in"), self._bytes.labels("out")
        self._found: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        # Jobs that were let in: 202 was said of each, or is about to be.
        self._jobs = Counter("headrace_gateway_jobs", "Jobs that were let in.", ("kind",), registry=self._registry)
        self._kinds: dict[str, Counter] = {}
        # Requests that were refused, by reason: see `Why` in errors.py.
        self._refused = Counter(
            "headrace_gateway_refused", "Requests that were refused.", ("why",), registry=self._registry
        )
        # Jobs whose end somebody waits for now.
        self._waiting = Gauge("headrace_gateway_waiting", "Jobs that are waited for.", registry=self._registry)
        # Services that answered when they were last needed (1), or did not (0): kafka, ledger, redis.
        self._up = Gauge("headrace_gateway_up", "Services that answer.", ("service",), registry=self._registry)
        # Of each tenant and criterion (and the version of its question, "": it has no name) the share of all jobs that
        # people would say pass, as a bridge last worked it out from their labels and all verdicts: the value, both ends
        # of its 95 % interval, and how many jobs are labelled. Not worked out when this is asked for.
        self._rate = {
            name: Gauge(f"headrace_pass_rate{name}", words, _OF_A_RATE, registry=self._registry)
            for name, words in _RATES.items()
        }

        # Scores of ended jobs, by kind of criterion, and by the code of why there is no value ("": there is one). The
        # ledger's: they are counted a few minutes after the ends, once, and all gateways show the same.
        self._scores = _Scores()
        self._registry.register(self._scores)
        # Steps that are held now, by stage, and by what they wait for: a person, or a service that works again.
        self._held = Gauge(
            "headrace_held", "Steps that are held.", ("stage", "waits_for"), registry=self._registry
        )  # fmt: skip

    def visited(self, visit: Visit, route: str) -> None:
        """A request has ended."""
        method = visit.method if visit.method in _METHODS else "other"
        requests, seconds = self._of(route, method, visit.status)
        requests.inc()
        seconds.observe(visit.seconds)
        self._in.inc(visit.received)
        self._out.inc(visit.sent)
        if visit.why is not None:
            self._refused.labels(visit.why).inc()

    def _of(self, route: str, method: str, status: int) -> tuple[Counter, Histogram]:
        """The figures of such requests. To find them by their labels takes longer than to count."""
        key = route, method, status
        if key not in self._found:
            self._found[key] = self._requests.labels(route, method, str(status)), self._seconds.labels(route)
        return self._found[key]

    def let_in(self, kind: str) -> None:
        """A job was let in."""
        if (found := self._kinds.get(kind)) is None:
            found = self._kinds[kind] = self._jobs.labels(kind)
        found.inc()

    def text(self, *, waiting: int, up: dict[str, bool], known: Figures | None) -> bytes:
        """All figures, with how things stand now; `known` is what the ledger has, None while it does not answer."""
        self._tell(known or Figures())
        self._waiting.set(waiting)
        for service, answers in up.items():
            self._up.labels(service).set(answers)
        return generate_latest(self._registry)

    def _tell(self, known: Figures) -> None:
        """What the ledger has, and nothing that it had."""
        self._tell_rates(known.rates)
        self._scores.counts = known.scores
        self._held.clear()
        for each in known.held:
            self._held.labels(each.stage, "person" if each.needs_person else "service").set(each.held)

    def _tell_rates(self, rates: Sequence[Row[Any]]) -> None:
        for gauge in self._rate.values():
            gauge.clear()
        for rate in rates:
            of = (rate.tenant, rate.criterion, rate.version)
            told = {"": rate.value, "_low": rate.low, "_high": rate.high, "_labels": rate.labels}
            for name, value in told.items():
                self._rate[name].labels(*of).set(value)


class _Scores(Collector):
    """A counter that somebody else has counted: a client's own only counts up from nothing."""

    def __init__(self) -> None:
        self.counts: Sequence[ScoreCount] = ()

    def collect(self) -> Iterator[Metric]:
        found = CounterMetricFamily("headrace_scores", "Scores of ended jobs.", labels=("criterion", "not_judged"))
        for each in self.counts:
            found.add_metric((each.criterion, each.not_judged), each.scores)
        yield found
