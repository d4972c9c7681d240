"""The tables of knowledge bases: their documents, and what OpenAI's vector stores say of them beside those."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, String, Table, Text, text, true

from headrace_workers.core.tables import METADATA, Serial, partial_index

DOCUMENT: Final = "document"  # the kind of change of a document in `changes`

_IS_COMING = text("state = 'in_progress'")

# The documents of knowledge bases. Each change of a document, its chunks included, has a row in `changes`.
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

# Passages of documents, in order; only the document names the tenant.
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
    Column("terms", LargeBinary),  # what it is found by: see features/knowledge/lexical.py
    Index("chunks_document", "document_id", "id"),
    sqlite_autoincrement=True,  # an id in a worker's memory never becomes another chunk's
)

# How often each knowledge base is asked, a week back: see `bases.py`.
BASE_USES: Final = Table(
    "base_uses",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("knowledge", String(64), primary_key=True),
    Column("questions", Float, nullable=False),  # each day counts half of the next
    Column("asked_at", BigInteger, nullable=False),
)

# A knowledge base that was made through that door, with or without documents; one of the command line has no row here
# until something is said of it.
STORES: Final = Table(
    "stores",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("knowledge", String(64), primary_key=True),  # the base's name, which is the store's id
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("metadata", Text, nullable=False, server_default="{}"),  # JSON object of texts
    Column("expire_days", Integer),  # so long after it was last used its documents go; absent: never
    Column("expired_at", BigInteger),  # they are gone, or going
    Column("created_at", BigInteger, nullable=False),
    Column("used_at", BigInteger, nullable=False),
)

# Files that were put in together. How they stand is read from what follows, and from `documents`.
FILE_BATCHES: Final = Table(
    "file_batches",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("knowledge", String(64), nullable=False),
    Column("files", Text, nullable=False),  # JSON: the id and the name of each
    Column("created_at", BigInteger, nullable=False),
    Column("cancelled", Integer),  # so many were taken out; absent: nobody cancelled
    Index("file_batches_store", "tenant", "knowledge", "created_at"),
)

# Files until they become documents, and files that could not.
INCOMING: Final = Table(
    "incoming",
    METADATA,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("tenant", String(64), nullable=False),
    Column("knowledge", String(64), nullable=False),
    Column("file_id", String(64), nullable=False),
    Column("name", Text, nullable=False),  # the file's
    Column("attributes", Text, nullable=False, server_default="{}"),  # as in `documents`
    Column("state", String(16), nullable=False),  # in_progress | failed
    Column("code", String(32)),  # why it failed, as OpenAI has it,
    Column("reason", Text),  # and in words
    Column("created_at", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("taken_until", BigInteger, nullable=False, server_default=text("0")),  # its present reader has until then
    # It was put in by itself, or its batch is forgotten: no batch that is cancelled takes it out.
    Column("stays", Boolean, nullable=False, server_default=true()),
    Index("incoming_file", "tenant", "knowledge", "file_id", unique=True),
    partial_index("incoming_next", "taken_until", where=_IS_COMING),
)
