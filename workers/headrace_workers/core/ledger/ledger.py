"""The ledger: the memory of every accepted job. Each method is one transaction over the modules beside this file.

`for_bridges.py`, `for_workers.py`, `for_gateways.py` and `for_people.py` hold the methods of each kind of caller. A
feature's tables are asked through its store: `ledger.of(Batches)`.

Errors: `Unavailable` when the database does not answer; everything may be tried again, since each transaction
either happened whole or not at all, and repeating one that did happen changes nothing.
"""

from functools import cached_property
from typing import Any

from sqlalchemy import Engine, Row, select

from headrace_workers.core.ledger.deployment import Deployment
from headrace_workers.core.ledger.for_bridges import ForBridges
from headrace_workers.core.ledger.for_gateways import ForGateways
from headrace_workers.core.ledger.for_people import ForPeople
from headrace_workers.core.ledger.for_workers import ForWorkers
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.sql.database import clock, reading
from headrace_workers.core.tables import IDENTITY


class Ledger(ForBridges, ForWorkers, ForGateways, ForPeople):
    """All jobs and their state. Thread-safe; must not be carried over a fork (call `close` in the parent before)."""

    def __init__(self, engine: Engine, volatile: Engine | None = None) -> None:
        hooks()  # so that no transaction waits until a feature is imported
        super().__init__(engine, volatile)

    def now(self) -> int:
        """Return the time by the database's clock, in ms since 1970."""
        with reading(self._engine) as tx:
            return clock(tx)

    @cached_property
    def identity(self) -> str:
        """Return the id of this ledger: no two have the same."""
        with reading(self._engine) as tx:
            return str(tx.execute(select(IDENTITY.c.id)).scalar_one())

    def read(self, query: Any) -> list[Row[Any]]:
        """Return the rows of a query of the caller's own: for checks and reports."""
        with reading(self._engine) as tx:
            return list(tx.execute(query).all())

    @cached_property
    def deployment(self) -> Deployment:
        """Return whose topics and Kafka cluster it belongs to."""
        return Deployment(self._engine)
