"""The quality feature's part of `/metrics`."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import Metric
from sqlalchemy import Connection

from headrace_workers.core.ledger.metrics import gauge
from headrace_workers.features.quality.store import read_pass_rates

_LABELS: Final = ("tenant", "criterion", "version")
_RATES: Final = {
    "": ("value", "The estimated share of jobs that people would say pass."),
    "_low": ("low", "The lower end of the 95 % interval of the pass rate."),
    "_high": ("high", "The upper end of the 95 % interval of the pass rate."),
    "_labels": ("labels", "Jobs that people labelled, from which the pass rate is estimated."),
}


def pass_rates(connection: Connection) -> Iterator[Metric]:
    """Return the last computed pass rate of each tenant, criterion and version, its 95 % interval, and its labels."""
    found = read_pass_rates(connection)
    for suffix, (column, words) in _RATES.items():
        rows = ((rate.tenant, rate.criterion, rate.version, getattr(rate, column)) for rate in found)
        yield gauge(f"headrace_pass_rate{suffix}", words, _LABELS, rows)
