"""The table of the data boundary: the providers that each tenant allows. A tenant without a row uses local models."""

from typing import Final

from sqlalchemy import BigInteger, Column, String, Table

from headrace_workers.core.tables import METADATA

ALLOWED_PROVIDERS: Final = Table(
    "allowed_providers",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("provider", String(64), primary_key=True),
    Column("allowed_at", BigInteger, nullable=False),
)
