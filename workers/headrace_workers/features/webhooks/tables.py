"""The tables of webhooks: who listens, what is told, and which jobs have a callback of their own."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, SmallInteger, String, Table, Text, text

from headrace_workers.core.tables import METADATA, partial_index

# Of an endpoint: it was registered and hears of what it asks for; it is the tenant's own for callbacks, whose secret
# signs what goes to the URLs that jobs name; or it is such a place (scheme, host and port), which was met once.
REGISTERED, CALLBACKS, PLACE = "registered", "callbacks", "place"

# The conditions of the partial indexes, as queries use them.
LISTENS: Final = text("webhook_endpoints.origin = 'registered' AND webhook_endpoints.disabled IS NULL")


ENDPOINTS: Final = Table(
    "webhook_endpoints",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("origin", String(12), nullable=False),  # registered | callbacks | place
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),  # empty for the tenant's own
    Column("events", Text, nullable=False),  # JSON list of names
    Column("whole", Boolean, nullable=False),  # it is told the whole receipt, not its head
    Column("secret", Text),  # as it is kept, see features/webhooks/signing.py; a place has none
    Column("hint", String(16)),  # what people know it by
    Column("old_secret", Text),  # signs, too, until:
    Column("old_until", BigInteger),
    Column("failures", Integer, nullable=False, server_default=text("0")),  # in a row
    Column("failing_since", BigInteger),
    Column("pauses", SmallInteger, nullable=False, server_default=text("0")),  # in a row
    Column("paused_until", BigInteger),
    Column("disabled", Text),  # why, where it is
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),  # by people; of a place, when it was last met
    partial_index("webhook_endpoints_listening", "tenant", where=LISTENS),
    Index("webhook_endpoints_tenant", "tenant", "created_at"),
)

# What one endpoint is told of one event. Its id is that of the unit that does it, and the receiver's `webhook-id`.
DELIVERIES: Final = Table(
    "webhook_deliveries",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("endpoint_id", String(36), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("type", String(64), nullable=False),
    Column("subject", String(64), nullable=False),  # the job, batch or response that it tells of
    Column("url", Text),  # of a callback; absent: the endpoint's
    Column("body", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),  # all that there were
    Column("attempted_at", BigInteger),  # this and what follows: of the last
    Column("status", SmallInteger),
    Column("ms", Integer),
    Column("error", Text),
    Column("answer", Text),  # the beginning of what the receiver said
    Column("replayed_at", BigInteger),
    Index("webhook_deliveries_endpoint", "endpoint_id", "created_at"),
)

# Jobs that say themselves who is to be told of their end.
CALLBACKS_OF_JOBS: Final = Table(
    "callbacks",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("wish", Text, nullable=False),  # JSON of the Callback
)
