"""The ledger's table of pass rates: what a bridge has worked out of labels and verdicts, until it does so again."""

from typing import Final

from sqlalchemy import BigInteger, Column, Float, String, Table, Text

from headrace_workers.ledger.tables.core import METADATA

RATES: Final = Table(
    "pass_rates",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("criterion", String(128), primary_key=True),
    Column("version", String(64), primary_key=True),  # empty where the criterion has no name
    Column("value", Float, nullable=False),
    Column("low", Float, nullable=False),
    Column("high", Float, nullable=False),
    Column("level", Float, nullable=False),
    Column("labels", BigInteger, nullable=False),  # items that people labelled
    Column("verdicts", BigInteger, nullable=False),
    Column("reason", Text),  # why the verdicts were not followed, where they were not
    Column("computed_at", BigInteger, nullable=False),
)
