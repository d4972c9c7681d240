"""The tables of answers that may be given again, of whom they were given to, and of their audits."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    text,
)

from headrace_workers.core.tables import METADATA, Serial, partial_index

ENTRY: Final = "entry"  # the kind of change of an entry in `changes`

IS_PENDING: Final = text("entries.state = 'pending'")
IS_LIVE: Final = text("entries.state = 'live'")

_LIVE_OR_PENDING = text("state = 'live' OR state = 'pending'")
_DRAWN = text("share > 0")

# Answers that may be given again. One is pending while its job makes it, live once moderation has allowed it, and dead
# once it was replaced, recalled or has become too old. Each change has a row in `changes`.
ENTRIES: Final = Table(
    "entries",
    METADATA,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("scope", String(64), nullable=False),  # what must be the same, the question apart: see semantic/scope.py
    Column("key", String(64), nullable=False),  # of the whole request
    Column("normalised", String(64)),  # the same, of its normalised question; absent where nothing else may be served
    Column("tenant", String(64), nullable=False),
    Column("state", String(8), nullable=False),  # pending | live | dead
    Column("job_id", String(36), nullable=False),  # whose answer it is
    Column("lane", SmallInteger, nullable=False),  # of that job
    Column("question", Text),  # absent where only the very same request may be served
    Column("vector", LargeBinary),  # of the question, float32
    Column("answer", LargeBinary),  # JSON of an Answer, once live
    Column("saved_ms", Float, nullable=False, server_default=text("0")),  # a model's time for it
    Column("made_at", BigInteger, nullable=False),  # pending since, then live since
    Column("asked_at", BigInteger),  # pending since: what it rests on was looked for then; absent in old rows
    Column("expires_at", BigInteger, nullable=False),
    Column("died_at", BigInteger),
    Column("reason", Text),  # why it died
    partial_index("entries_pending", "key", unique=True, where=IS_PENDING),
    partial_index("entries_live", "key", unique=True, where=IS_LIVE),
    partial_index("entries_normalised", "normalised", where=_LIVE_OR_PENDING),
    partial_index("entries_expiring", "expires_at", where=IS_LIVE),
    partial_index("entries_tenant", "tenant", "id", where=IS_LIVE),
    Index("entries_job", "job_id"),
    partial_index(
        "entries_died",
        "died_at",
        where=text("died_at IS NOT NULL"),
    ),
    sqlite_autoincrement=True,  # an id in a worker's memory never becomes another entry's
)

# Which job was served which entry: a wrong answer can be traced to every job that got it.
SERVES: Final = Table(
    "serves",
    METADATA,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("job_id", String(36), nullable=False),
    Column("entry_id", BigInteger, nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("scope", String(64), nullable=False),
    Column("tier", String(12), nullable=False),  # exact | coalesced | normalised | semantic
    Column("similarity", Float),
    Column("first_job", String(36), nullable=False),
    Column("saved_tokens", Integer, nullable=False),
    Column("saved_ms", Float, nullable=False),
    Column("served_at", BigInteger, nullable=False),
    Column("stratum", SmallInteger),  # of similarity: where likeness found it
    Column("share", Float),  # its chance to be audited; 0 or absent: none
    Index("serves_job", "job_id"),
    Index("serves_entry", "entry_id"),
    Index("serves_at", "served_at"),
    partial_index("serves_drawn", "scope", "served_at", where=_DRAWN),
)

# The documents, by version, that an answer rests on: it dies when one changes. Kept as long as the answer.
USES: Final = Table(
    "uses",
    METADATA,
    Column("entry_id", BigInteger, primary_key=True, autoincrement=False),
    Column("document_id", BigInteger, primary_key=True, autoincrement=False),
    Column("sha256", String(64), nullable=False),  # of the document's file and attributes
    Index("uses_document", "document_id"),
)


# Kinds of audit: of served answers, of answers that a guard refused, and of answers that would be served if their scope
# were not in shadow.
HIT: Final = "hit"
REFUSED: Final = "refused"
SHADOW: Final = "shadow"

# The conditions of the partial indexes, as queries use them.
AWAITS_FRESH: Final = text("audits.label IS NULL")
IS_UNKNOWN: Final = text("audits.label = 'unknown'")
IS_UNJUDGED: Final = text("audits.label IS NOT NULL AND NOT audits.judged")


# An answer that likeness served to a job, or nearly did, and a fresh answer to its question. A hit has the id of the
# unit that makes the fresh answer; a near miss is compared with the answer that the job was given instead.
AUDITS: Final = Table(
    "audits",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("kind", String(8), nullable=False, server_default="hit"),  # hit | refused | shadow
    Column("job_id", String(36), nullable=False),  # who was served, or nearly
    Column("entry_id", BigInteger, nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("scope", String(64), nullable=False),
    Column("similarity", Float, nullable=False),
    Column("stratum", SmallInteger, nullable=False),  # of similarity: see features/cache/auditing.py
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
    partial_index("audits_waiting", "scope", where=AWAITS_FRESH),
    partial_index("audits_unknown", "served_at", where=IS_UNKNOWN),
    partial_index("audits_unjudged", "scope", where=IS_UNJUDGED),
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
    Column("since", BigInteger, nullable=False, server_default=text("0")),  # what was served before does not count
    Column("changed_at", BigInteger, nullable=False),
    Column("serves_by", String(128)),  # who let it serve before its bound was shown
)
