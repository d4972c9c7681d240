"""The ledger's table for responses: what was asked for, as long as it may be retrieved."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, LargeBinary, String, Table

from headrace_workers.core.tables import METADATA

RESPONSES: Final = Table(
    "responses",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False),  # of the request, as JSON
    Column("asked_at", BigInteger, nullable=False),
    Index("responses_asked", "asked_at"),
)
