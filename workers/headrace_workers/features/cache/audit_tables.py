"""The tables of audits: how often what likeness serves is wrong. See audit_rows.py, audit_counts.py, standings.py."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    text,
)

from headrace_workers.core.tables import METADATA

# Kinds of audit: of served answers, of answers that only the threshold refused, of answers that a guard refused, and of
# answers that would be served if their scope were not in shadow.
HIT: Final = "hit"
BELOW: Final = "below"
REFUSED: Final = "refused"
SHADOW: Final = "shadow"

# The conditions of the partial indexes, as queries use them.
AWAITS_FRESH: Final = text("audits.label IS NULL")
IS_UNKNOWN: Final = text("audits.label = 'unknown'")
IS_UNJUDGED: Final = text("audits.label IS NOT NULL AND NOT audits.judged")

_AWAITS_FRESH = text("label IS NULL")
_UNKNOWN = text("label = 'unknown'")
_UNJUDGED = text("label IS NOT NULL AND NOT judged")

# An answer that likeness served to a job, or nearly did, and a fresh answer to its question. A hit has the id of the
# unit that makes the fresh answer; a near miss is compared with the answer that the job was given instead.
AUDITS: Final = Table(
    "audits",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("kind", String(8), nullable=False, server_default="hit"),  # hit | below | refused | shadow
    Column("job_id", String(36), nullable=False),  # who was served, or nearly
    Column("entry_id", BigInteger, nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("scope", String(64), nullable=False),
    Column("similarity", Float, nullable=False),
    Column("stratum", SmallInteger, nullable=False),  # of similarity: see features/cache/calibration/sampling.py
    Column("share", Float, nullable=False),  # the chance that it had to be audited
    Column("served_at", BigInteger, nullable=False),
    Column("question", Text),  # this and the next three: absent once they are not needed
    Column("served", Text),
    Column("fresh", Text),
    Column("again", Text),  # of some, a second fresh answer,
    Column("own", String(8)),  # and how that compares with the first: clean | wrong | unknown
    Column("guard", String(32)),  # of what guards refused: the one that alone did, or `several`
    Column("label", String(8)),  # clean | wrong | unknown; absent while it waits for its fresh answer
    Column("labelled_by", String(128)),
    Column("labelled_at", BigInteger),
    Column("reason", Text),
    Column("judged", Boolean, nullable=False, server_default=false()),  # its label is in its scope's standing
    Index("audits_waiting", "scope", postgresql_where=_AWAITS_FRESH, sqlite_where=_AWAITS_FRESH),
    Index("audits_unknown", "served_at", postgresql_where=_UNKNOWN, sqlite_where=_UNKNOWN),
    Index("audits_unjudged", "scope", postgresql_where=_UNJUDGED, sqlite_where=_UNJUDGED),
    Index("audits_scope", "scope", "served_at"),
    Index("audits_entry", "entry_id"),
    Index("audits_served", "served_at"),
)

# How each scope stands, as of its audits.
STANDINGS: Final = Table(
    "standings",
    METADATA,
    Column("scope", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # not yet shown | shown | off
    Column("sentence", Text, nullable=False),  # why
    Column("figures", Text, nullable=False),  # JSON of its bound
    Column("least", Float),  # the similarity that its curve asks for
    Column("fits", SmallInteger, nullable=False, server_default=text("0")),  # how many curves there were
    Column("since", BigInteger, nullable=False, server_default=text("0")),  # what was served before does not count
    Column("changed_at", BigInteger, nullable=False),
    Column("number", Integer, nullable=False, server_default=text("0")),  # of its claim: all share one alpha by these
    Column("serves_by", String(128)),  # who let it serve before its bound was shown
)
