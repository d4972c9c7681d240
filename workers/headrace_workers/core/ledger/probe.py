"""Probe of whether the ledger takes jobs: short writes over a connection of its own."""

import secrets
from functools import cached_property
from typing import Final

from sqlalchemy import Engine, delete, exists

from headrace_workers.core.ledger.accepted import was_refused
from headrace_workers.core.sql.database import connect, insert, lose_together, now_ms, reading, writing
from headrace_workers.core.tables import ACCEPTED, JOBS, PROBE_SLOTS, PROBES

_NOBODY: Final = ""  # the id of no job
_OF_NOBODY: Final = delete(ACCEPTED).where(
    ACCEPTED.c.job_id == _NOBODY, exists().where(JOBS.c.id == ACCEPTED.c.job_id) | was_refused()
)
SECONDS: Final = 2  # that a probe's statement has; PostgreSQL's answer has as many more to reach us


class Probe:
    """Writer to one row of the ledger. Belongs to one thread.

    If its connection is lost, `engine` opens its own anew, too: idle ones may lead to a server that is gone.
    """

    def __init__(self, engine: Engine) -> None:
        self._of = engine
        self._slot = secrets.randbelow(PROBE_SLOTS)

    def write(self) -> None:
        """Write to this process's row, and delete the job of nobody. Raise `Unwritable` where the ledger takes no
        writes, `Unavailable` where it does not answer or a table that takes jobs is locked.
        """
        values = {"slot": self._slot, "at": now_ms()}
        # PostgreSQL needs no transaction around each statement.
        begin = reading if self._engine.dialect.name == "postgresql" else writing
        with begin(self._engine) as tx:
            made = insert(tx, PROBES).values(values)
            tx.execute(made.on_conflict_do_update(index_elements=["slot"], set_={"at": made.excluded.at}))
            tx.execute(_OF_NOBODY)

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()

    @cached_property
    def _engine(self) -> Engine:
        """Return an engine of the same database with a shorter time limit: no work depends on it."""
        limits = {"timeout": str(SECONDS)}
        if self._of.dialect.name == "postgresql":
            limits["connect_timeout"] = str(SECONDS)
        engine = connect(self._of.url.update_query_dict(limits))
        lose_together(engine, self._of)
        return engine
