"""The spend feature's part of `/metrics`."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import Metric
from sqlalchemy import Connection

from headrace_workers.core.ledger.metrics import counter
from headrace_workers.features.spend.store import known_cost_by_model, tokens_by_model

_UNIT: Final = 1_000_000  # money is in micro-units


def usage(connection: Connection) -> Iterator[Metric]:
    """Return the tokens of answers and the cost of calls, of all days. They are counted some minutes after the ends."""
    yield counter(
        "headrace_tokens",
        "Tokens of the answers of ended jobs, read and written.",
        ("model", "direction"),
        (
            (model, direction, tokens)
            for model, read, written in tokens_by_model(connection)
            for direction, tokens in (("input", read), ("output", written))
        ),
    )
    yield counter(
        "headrace_cost",
        "Cost of the calls of models, in units of the currency. Calls whose use is not known are left out.",
        ("model", "currency"),
        ((model, currency, amount / _UNIT) for model, currency, amount in known_cost_by_model(connection)),
    )
