"""The ledger's tables of generation: what was asked for, as long as it may be retrieved, and which models answered."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, Text

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

# The name under which the provider of each remote model answered last, and how often that has changed.
MODEL_GENERATIONS: Final = Table(
    "model_generations",
    METADATA,
    Column("alias", String(64), primary_key=True),
    Column("returned", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
)
