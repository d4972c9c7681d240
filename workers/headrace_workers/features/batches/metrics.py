"""The batches feature's part of `/metrics`."""

from collections.abc import Iterator

from prometheus_client import Metric
from sqlalchemy import Connection

from headrace_workers.core.ledger.metrics import gauge
from headrace_workers.features.batches.store.batches import open_lines


def lines(connection: Connection) -> Iterator[Metric]:
    """Return the lines of all batches that have not ended, by their state."""
    rows = open_lines(connection).items()
    yield gauge("headrace_batch_lines", "Lines of batches that have not ended.", ("state",), rows)
