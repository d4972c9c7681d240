"""The two ways into the ledger's database: one that nothing is lost of, and a faster one."""

from collections.abc import Callable
from typing import Self

from sqlalchemy import Engine

from headrace_workers.core.sql.database import connect, listen, lose_together
from headrace_workers.core.sql.reads import Reads


class Engines:
    """The connections of one ledger. Thread-safe; not to be carried over a fork (call `close` in the parent before)."""

    def __init__(self, engine: Engine, volatile: Engine | None = None) -> None:
        self._engine = engine
        # For hand-outs, starts, renewals and duties: a crash of the database that forgets one of them looks like a
        # lease that ran out, or makes an event be published again under the same id.
        self._volatile = volatile or engine
        self._reads = Reads(engine)  # for what is read alone, and at once

    @classmethod
    def at(cls, url: str) -> Self:
        """The ledger at a database URL: `sqlite:///PATH` or `postgresql+psycopg://…`."""
        engine, volatile = connect(url), connect(url, durable=False)
        lose_together(engine, volatile)
        return cls(engine, volatile)

    @property
    def engine(self) -> Engine:
        """The engine, for migrations and for reading in tests."""
        return self._engine

    def tell_of_changes(self, told: Callable[[], object]) -> None:
        """Call this, on the thread of the writer, whenever a transaction of ours has changed what workers follow."""
        listen(self._engine, told)

    def close(self) -> None:
        """Close all connections."""
        self._reads.close()
        self._engine.dispose()
        self._volatile.dispose()
