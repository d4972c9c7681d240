"""The tables of files and uploads. The content of a file is in the file store; its row says where."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text, text

from headrace_workers.core.tables import METADATA, partial_index

_EXPIRES = text("expires_at IS NOT NULL")

FILES: Final = Table(
    "files",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("lines", BigInteger),  # of the text in it, that have something in them; absent where nobody counted
    Column("digest", String(64)),  # SHA-256 of all bytes in hexadecimal; absent while it grows
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Index("files_tenant", "tenant", "created_at", "id"),
    partial_index("files_expiring", "expires_at", where=_EXPIRES),
)

# The objects that a file consists of, in order: one, the parts in which it was sent, or what was appended.
PIECES: Final = Table(
    "pieces",
    METADATA,
    Column("file_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
)

UPLOADS: Final = Table(
    "uploads",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),  # bytes that are to come
    Column("state", String(16), nullable=False),  # pending | completed | cancelled | expired
    Column("file_id", String(64)),  # what became of it
    Column("completion", String(64)),  # SHA-256 of what it was completed with: the same again is answered the same
    Column("file_seconds", BigInteger),  # how long that is to be kept
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    partial_index(
        "uploads_pending",
        "expires_at",
        where=text("state = 'pending'"),
    ),
)

PARTS: Final = Table(
    "parts",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("upload_id", String(64), nullable=False),
    Column("path", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index("parts_upload", "upload_id"),
)
