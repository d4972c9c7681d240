"""The tables of access: API keys, and what tenants and keys may use."""

from typing import Final

from sqlalchemy import BigInteger, Column, SmallInteger, String, Table, Text, text

from headrace_workers.core.tables import METADATA, NEVER, partial_index

API_KEYS: Final = Table(
    "api_keys",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),  # with spaces between them
    Column("digest", String(64), nullable=False),  # SHA-256 of the whole key, in hex: the key itself is nowhere
    Column("made_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

IS_WAITED_FOR: Final = text(f"reservations.expires_at < {NEVER}")

# How many tokens, or how much money (in micro-units), a tenant or one of its keys may use in a period. `used` is of the
# period that began then; used and reserved are never more than `most` together: see store/quotas.py.
QUOTAS: Final = Table(
    "quotas",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("key_id", String(16), primary_key=True),  # "" for all of the tenant's jobs
    Column("unit", String(8), primary_key=True),  # tokens | money
    Column("period", String(8), primary_key=True),  # day | month | ever
    Column("most", BigInteger, nullable=False),
    Column("began", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("told", SmallInteger, nullable=False),  # the percentage that was last told of in this period
)

# Reservations of jobs that have not ended, of tenants that have a quota.
RESERVATIONS: Final = Table(
    "reservations",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("key_id", String(16), nullable=False),  # of the key that sent it through a gateway, else ""
    Column("tokens", BigInteger, nullable=False),
    Column("money", BigInteger, nullable=False),  # micro-units: what its calls cost so far, and the most of the next
    Column("expires_at", BigInteger, nullable=False),  # until the ledger has the job
    Column("digest", String(64)),  # of the content that waits to be taken in: see core/tables.py, ACCEPTED
    partial_index("reservations_waiting", "expires_at", where=IS_WAITED_FOR),
)

# Lost calls whose bounds were counted as used when their jobs ended, until the true costs are known: see
# store/quotas.py and core/ledger/accounting.py.
BOUNDS_PAID: Final = Table(
    "bounds_paid",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("claim_id", BigInteger, primary_key=True, autoincrement=False),
    Column("tenant", String(64), nullable=False),
    Column("key_id", String(16), nullable=False),  # as of the reservation
    Column("paid_at", BigInteger, nullable=False),
)
