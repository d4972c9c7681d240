"""The tables of spending: what tenants use, and what their calls of models cost, by day."""

from typing import Final

from sqlalchemy import BigInteger, Column, Integer, String, Table

from headrace_workers.core.tables import METADATA

# What tenants have used, by the day on which jobs ended (days since 1970, UTC).
USAGE: Final = Table(
    "usage_days",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("model", String(64), primary_key=True),  # "" where no model answered
    Column("jobs", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
)

# By the day on which jobs ended (days since 1970, UTC). Money is in micro-units.
SPEND_DAYS: Final = Table(
    "spend_days",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("currency", String(3), primary_key=True),  # "" where no price was known
    Column("calls", BigInteger, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("unknown_calls", BigInteger, nullable=False),
    Column("bound", BigInteger, nullable=False),  # the part of the amount that is the most that calls may have cost
)
