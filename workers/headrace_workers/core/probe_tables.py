"""The ledger's table of probes: a process writes to its row, to see whether the ledger takes writes."""

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, Table

from headrace_workers.core.tables import METADATA

SLOTS: Final = 4_096  # rows at most: a process draws one at its start, so that two hardly ever share one

PROBES: Final = Table(
    "probes",
    METADATA,
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),  # ms since 1970: the last probe
)
