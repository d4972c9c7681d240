"""Probe of whether the ledger takes writes: a short write over a connection of its own."""

import secrets
from functools import cached_property
from typing import Final

from sqlalchemy import Engine

from headrace_workers.core.sql.database import connect, insert, now_ms, reading, writing
from headrace_workers.core.tables import PROBE_SLOTS, PROBES

SECONDS: Final = 2  # that a probe's statement has; PostgreSQL's answer has as many more to reach us


class Probe:
    """Writer to one row of the ledger. Belongs to one thread."""

    def __init__(self, engine: Engine) -> None:
        self._of = engine
        self._slot = secrets.randbelow(PROBE_SLOTS)

    def write(self) -> None:
        """Write to this process's row. Raise `Unwritable` where the ledger takes no writes, `Unavailable` where it does
        not answer.
        """
        values = {"slot": self._slot, "at": now_ms()}
        # PostgreSQL needs no transaction around one statement.
        begin = reading if self._engine.dialect.name == "postgresql" else writing
        with begin(self._engine) as tx:
            made = insert(tx, PROBES).values(values)
            tx.execute(made.on_conflict_do_update(index_elements=["slot"], set_={"at": made.excluded.at}))

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    @cached_property
    def _engine(self) -> Engine:
        """Return an engine of the same database with a shorter time limit: no work depends on it."""
        limits = {"timeout": str(SECONDS)}
        if self._of.dialect.name == "postgresql":
            limits["connect_timeout"] = str(SECONDS)
        return connect(self._of.url.update_query_dict(limits))
