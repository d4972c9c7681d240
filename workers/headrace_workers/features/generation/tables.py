"""The ledger's tables of generation: what was asked for, as long as it may be retrieved, and how
models fare.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, SmallInteger, String, Table, Text, text

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

# The breaker of each model that failed or was drilled at least once: see store/breakers.py.
BREAKERS: Final = Table(
    "breakers",
    METADATA,
    Column("model", String(64), primary_key=True),
    Column("failures", Integer, nullable=False, server_default=text("0")),  # in a row
    Column("openings", SmallInteger, nullable=False, server_default=text("0")),  # since it was closed
    Column("opened_at", BigInteger),
    Column("open_until", BigInteger),
    Column("probed_until", BigInteger),
    Column("probed_by", String(64)),  # the tenant that probed last
    Column("reason", Text),
    Column("tenants", Text),  # JSON: the breakers of tenants that failed since they were answered
    Column("answered", Text),  # JSON: when tenants were answered
    Column("drill", String(8)),  # the fault that is injected until:
    Column("drilled_until", BigInteger),
)

# Calls of models by the minute, for an hour.
MODEL_CALLS: Final = Table(
    "model_calls",
    METADATA,
    Column("model", String(64), primary_key=True),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),  # since 1970
    Column("calls", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("ms", BigInteger, nullable=False),  # of all calls that were answered, together
    Column("slowest_ms", Integer, nullable=False),
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
