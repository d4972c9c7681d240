"""Generation's part of `/metrics`."""

from collections.abc import Iterator
from typing import Final

from prometheus_client import Metric
from sqlalchemy import Connection, func, select

from headrace_workers.core.ledger.metrics import gauge
from headrace_workers.core.sql.database import clock
from headrace_workers.core.tables import DEAD_LETTERS
from headrace_workers.features.generation.store.breakers import all_of

_STATES: Final = ("closed", "half_open", "open")


def unparsable_jobs(connection: Connection) -> Iterator[Metric]:
    """Return the jobs that ended because their answer did not have its format, by failure, as far as the ledger keeps
    their dead letters.
    """
    failure = DEAD_LETTERS.c.failure
    query = select(failure, func.count()).where(failure.is_not(None)).group_by(failure).order_by(failure)
    yield gauge(
        "headrace_unparsable_jobs",
        "Jobs whose answer did not have its format, among the dead letters that the ledger has.",
        ("failure",),
        connection.execute(query),
    )


def breakers(connection: Connection) -> Iterator[Metric]:
    """Return the state of the breaker of each model that ever failed."""
    now = clock(connection)
    yield gauge(
        "headrace_breaker_state",
        "Whether the breaker of a model is in a state: 1 or 0. Only models that failed once have a breaker.",
        ("model", "state"),
        (
            (model, state, health.breaker.state(now) == state)
            for model, health in sorted(all_of(connection).items())
            for state in _STATES
        ),
    )
