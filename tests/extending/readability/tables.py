"""The table of readability."""

from typing import Final

from sqlalchemy import BigInteger, Column, String, Table

from headrace_workers.core.tables import METADATA

READABILITY: Final = Table(
    "readability",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("sentences", BigInteger, nullable=False),
    Column("long_sentences", BigInteger, nullable=False),
)
