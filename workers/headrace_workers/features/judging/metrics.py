"""Judging's part of `/metrics`."""

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from sqlalchemy import Connection

from headrace_workers.features.judging.store.score_counts import counts


def scores(connection: Connection) -> Iterator[Metric]:
    """Return the scores of ended jobs, by kind of criterion, and by the code of why there is no value ("": there is
    one). They are counted a few minutes after the ends, once, and all gateways show the same.
    """
    found = CounterMetricFamily(
        "headrace_scores",
        "Scores of ended jobs. not_judged is the code of why there is no value, or empty.",
        labels=("criterion", "not_judged"),
    )
    for each in counts(connection):
        found.add_metric((each.criterion, each.not_judged), each.scores)
    yield found
