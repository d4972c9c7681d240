"""The page of all metrics, from what `/metrics` answers of an empty ledger."""

from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import create_engine

from headrace_workers.core.feature import installed
from headrace_workers.core.ledger.metrics import gauge, look
from headrace_workers.core.tables import METADATA
from headrace_workers.http.metrics import AGE, Metrics
from headrace_workers.http.middleware import RequestLog
from tools.reference.markdown_text import beginning, code, paragraphs, table

_INTRODUCTION: Final = """\
`GET /metrics` of a gateway answers in Prometheus' text format. The request needs a key with the scope `metrics`:
[Monitor and scale](../how-to/monitor-and-scale.md) says how to make one, and what to alarm and to scale on. Each
gateway counts for itself from its start. The metrics of the ledger are the same at all gateways: a bridge looks every
five seconds. No metric names a job, and only pass rates name tenants.
"""
_MOST_LABELS: Final = 10
_CREATED: Final = "_created"  # when a counter began, which the client library adds


def page() -> str:
    """Return the page of all metrics, in Markdown."""
    return paragraphs(
        beginning("Metrics", "the metrics of the gateway", _INTRODUCTION),
        "## Metrics of a gateway",
        _table(_of_gateway()),
        "## Metrics of the ledger",
        _table(_of_ledger()),
    )


def _table(metrics: Iterable[Metric]) -> str:
    return table(("metric", "type", "labels", "meaning"), map(_row, metrics))


def _row(metric: Metric) -> tuple[str, str, str, str]:
    labels = dict.fromkeys(name for sample in metric.samples for name in sample.labels if name != "le")
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    return code(name), metric.type, ", ".join(map(code, labels)), metric.documentation


def _of_gateway() -> Iterator[Metric]:
    """Yield the metrics of a gateway that answered one request and admitted one job."""
    metrics = Metrics()
    visit = RequestLog("", "GET", why="invalid")
    metrics.visited(visit, "/v1/jobs")
    metrics.count_admitted("generation")
    text = metrics.text(waiting=0, up={"kafka": True}).decode()
    for family in text_string_to_metric_families(text):
        if not family.name.endswith(_CREATED):
            yield family


def _of_ledger() -> Iterator[Metric]:
    """Yield the metrics of an empty ledger, each with one sample, which has the metric's labels."""
    for feature in installed():
        feature.metrics()  # their tables are known from then on
    engine = create_engine("sqlite://")
    METADATA.create_all(engine)
    with engine.connect() as connection:
        for metric in look(connection, {}).metrics:
            if isinstance(metric, CounterMetricFamily | GaugeMetricFamily) and not metric.samples:
                metric.add_metric([""] * _MOST_LABELS, 0.0)  # a family takes as many values as it has labels
            yield metric
    yield gauge(*AGE, (), [[0.0]])
