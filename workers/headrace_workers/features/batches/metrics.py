"""The batches feature's part of `/metrics`."""

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from sqlalchemy import Connection

from headrace_workers.features.batches.store.batches import open_lines


def lines(connection: Connection) -> Iterator[Metric]:
    """Return the lines of all batches that have not ended, by their state."""
    found = GaugeMetricFamily("headrace_batch_lines", "Lines of batches that have not ended.", labels=("state",))
    for state, number in open_lines(connection).items():
        found.add_metric((state,), number)
    yield found
