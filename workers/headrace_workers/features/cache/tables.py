"""The ledger's tables for answers that may be given again, and for the documents that answers rest on."""

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, SmallInteger, String, Table, Text, text

from headrace_workers.core.tables import METADATA, Serial

IS_PENDING: Final = text("entries.state = 'pending'")
IS_LIVE: Final = text("entries.state = 'live'")

_PENDING = text("state = 'pending'")
_LIVE_ENTRY = text("state = 'live'")
_DRAWN = text("share > 0")

# Answers that may be given again. One is pending while its job makes it, live once moderation has allowed it, and dead
# once it was replaced, recalled or has become too old. Each change has a row in `changes`.
ENTRIES: Final = Table(
    "entries",
    METADATA,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("scope", String(64), nullable=False),  # what must be the same, the question apart: see semantic/scope.py
    Column("key", String(64), nullable=False),  # of the whole request
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

# That an entry or a document changed: workers follow these, and read what it is now. See changes.py for their order.
CHANGES: Final = Table(
    "changes",
    METADATA,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("xact", BigInteger, nullable=False),  # the transaction that wrote it; 0 on SQLite, which has one at a time
    Column("kind", String(8), nullable=False, server_default="entry"),  # entry | document
    Column("subject", BigInteger, nullable=False),  # its id
    Column("at", BigInteger, nullable=False),
    Index("changes_order", "kind", "xact", "number"),
    sqlite_autoincrement=True,
)

# Which job was served which entry: an answer that was wrong is found wherever it went.
SERVES: Final = Table(
    "serves",
    METADATA,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("job_id", String(36), nullable=False),
    Column("entry_id", BigInteger, nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("scope", String(64), nullable=False),
    Column("tier", String(12), nullable=False),  # exact | coalesced | semantic
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

# What knowledge bases hold. Each change of a document, its chunks included, has a row in `changes`.
DOCUMENTS: Final = Table(
    "documents",
    METADATA,
    Column("id", Serial, primary_key=True, autoincrement=True),  # the same while the document changes
    Column("tenant", String(64), nullable=False),
    Column("knowledge", String(64), nullable=False),  # the base's name
    Column("name", Text, nullable=False),  # what citations call it
    Column("sha256", String(64), nullable=False),  # of the file
    Column("format", String(16), nullable=False),  # markdown | underlined | plain: see features/knowledge/documents.py
    Column("embedder", Text, nullable=False),  # the id of the one that made the vectors of its chunks
    Column("size", BigInteger, nullable=False),  # of the file, in bytes
    Column("chunks", Integer, nullable=False),  # how many it has
    Column("added_at", BigInteger, nullable=False),  # as it is now
    Column("attributes", Text, nullable=False, server_default="{}"),  # JSON, its keys in order
    Index("documents_name", "tenant", "knowledge", "name", unique=True),
    sqlite_autoincrement=True,  # an id in a worker's memory never becomes another document's
)

# Passages of documents, in order; whose they are is told by their document alone.
CHUNKS: Final = Table(
    "chunks",
    METADATA,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("document_id", BigInteger, nullable=False),
    Column("key", String(32), nullable=False),  # from its words and place: see features/knowledge/chunking.py
    Column("section", Text, nullable=False),
    Column("start", Integer, nullable=False),  # characters of the document's text
    Column("stop", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("vector", LargeBinary, nullable=False),  # float32
    Column("terms", LargeBinary),  # what it is found by: see features/knowledge/terms.py
    Index("chunks_document", "document_id", "id"),
    sqlite_autoincrement=True,  # an id in a worker's memory never becomes another chunk's
)

# Which documents an answer that may be given rests on, as they were: with them it dies. Kept as long as the answer.
USES: Final = Table(
    "uses",
    METADATA,
    Column("entry_id", BigInteger, primary_key=True, autoincrement=False),
    Column("document_id", BigInteger, primary_key=True, autoincrement=False),
    Column("sha256", String(64), nullable=False),  # of the document's file and attributes: see uses.py
    Index("uses_document", "document_id"),
)

# How much each knowledge base is asked, a week back: see base_uses.py.
BASE_USES: Final = Table(
    "base_uses",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("knowledge", String(64), primary_key=True),
    Column("questions", Float, nullable=False),  # each day counts half of the next
    Column("asked_at", BigInteger, nullable=False),
)

# How far those are who follow `changes`, for people to see.
FOLLOWERS: Final = Table(
    "followers",
    METADATA,
    Column("holder", String(128), primary_key=True),
    Column("kind", String(8), primary_key=True),  # as in `changes`
    Column("xact", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)
