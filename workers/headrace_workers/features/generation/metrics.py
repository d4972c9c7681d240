"""Generation's part of `/metrics`."""

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from sqlalchemy import Connection, func, select

from headrace_workers.core.tables import DEAD_LETTERS


def unparsable_jobs(connection: Connection) -> Iterator[Metric]:
    """Return the jobs that ended because their answer did not have its format, by failure, as far as the ledger keeps
    their dead letters.
    """
    found = GaugeMetricFamily(
        "headrace_unparsable_jobs",
        "Jobs whose answer did not have its format, among the dead letters that the ledger has.",
        labels=("failure",),
    )
    failure = DEAD_LETTERS.c.failure
    query = select(failure, func.count()).where(failure.is_not(None)).group_by(failure).order_by(failure)
    for name, jobs in connection.execute(query):
        found.add_metric((name,), jobs)
    yield found
