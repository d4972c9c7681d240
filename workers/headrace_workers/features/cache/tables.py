"""The tables of answers that may be given again, and of whom they were given to."""

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, SmallInteger, String, Table, Text, text

from headrace_workers.core.tables import METADATA, Serial

ENTRY: Final = "entry"  # the kind of change of an entry in `changes`

IS_PENDING: Final = text("entries.state = 'pending'")
IS_LIVE: Final = text("entries.state = 'live'")

_PENDING = text("state = 'pending'")
_LIVE_ENTRY = text("state = 'live'")
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
    Index("entries_pending", "key", unique=True, postgresql_where=_PENDING, sqlite_where=_PENDING),
    Index("entries_live", "key", unique=True, postgresql_where=_LIVE_ENTRY, sqlite_where=_LIVE_ENTRY),
    Index("entries_normalised", "normalised", postgresql_where=_LIVE_OR_PENDING, sqlite_where=_LIVE_OR_PENDING),
    Index("entries_expiring", "expires_at", postgresql_where=_LIVE_ENTRY, sqlite_where=_LIVE_ENTRY),
    Index("entries_tenant", "tenant", "id", postgresql_where=_LIVE_ENTRY, sqlite_where=_LIVE_ENTRY),
    Index("entries_job", "job_id"),
    Index(
        "entries_died",
        "died_at",
        postgresql_where=text("died_at IS NOT NULL"),
        sqlite_where=text("died_at IS NOT NULL"),
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
    Index("serves_drawn", "scope", "served_at", postgresql_where=_DRAWN, sqlite_where=_DRAWN),
)

# The documents, by version, that an answer rests on: it dies when one changes. Kept as long as the answer.
USES: Final = Table(
    "uses",
    METADATA,
    Column("entry_id", BigInteger, primary_key=True, autoincrement=False),
    Column("document_id", BigInteger, primary_key=True, autoincrement=False),
    Column("sha256", String(64), nullable=False),  # of the document's file and attributes: see uses.py
    Index("uses_document", "document_id"),
)
