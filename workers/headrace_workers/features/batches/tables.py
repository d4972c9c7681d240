"""The tables of batches and their lines."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Table, Text, false, text

from headrace_workers.core.tables import METADATA, Serial, partial_index

IS_UNFINISHED: Final = text("batches.ended_at IS NULL")
IS_REFUSED: Final = text("lines.state = 'refused'")

_NAMED = text("custom_id IS NOT NULL")
_KEYED = text("key IS NOT NULL")

BATCHES: Final = Table(
    "batches",
    METADATA,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("tenant", String(64), nullable=False),
    Column("key", String(64)),  # of what was submitted: the same is not run twice
    Column("endpoint", String(64)),  # the URL of OpenAI's that all lines name; absent: lines are headrace's jobs
    Column("input_file", String(64), nullable=False),
    Column("output_file", String(64)),
    Column("error_file", String(64)),
    Column("metadata", Text, nullable=False),  # JSON object of texts
    Column("defaults", Text, nullable=False),  # JSON object: what lines get that do not say
    Column("window", String(16), nullable=False),  # as it was asked for: 24h
    # validating | in_progress | cancelling | finalizing | completed | failed | expired | cancelled
    Column("state", String(16), nullable=False),
    Column("reason", Text),  # of one that failed as a whole
    Column(
        "position", BigInteger, nullable=False, server_default=text("0")
    ),  # bytes of the input's text that were read; -1: it cannot be read on
    Column("line", Integer, nullable=False, server_default=text("0")),  # lines that were read, empty ones too
    Column("read", Boolean, nullable=False, server_default=false()),  # to the end
    Column("total", BigInteger, nullable=False),  # lines of the input
    Column("taken", BigInteger, nullable=False, server_default=text("0")),  # of these, rows of `lines`
    Column("completed", BigInteger, nullable=False, server_default=text("0")),
    Column("failed", BigInteger, nullable=False, server_default=text("0")),
    Column("cached", BigInteger, nullable=False, server_default=text("0")),  # of the completed: no model was run
    Column("prompt_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("completion_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("max_tokens", BigInteger),  # that it may cost
    Column("withheld", String(64)),  # families of resources that its lines may not name, with spaces between them
    Column("reserved", BigInteger, nullable=False, server_default=text("0")),  # for the lines under way
    Column("spent", BigInteger, nullable=False, server_default=text("0")),
    Column("exhausted", Boolean, nullable=False, server_default=false()),  # nothing more fits: the rest is not run
    Column("created_at", BigInteger, nullable=False),
    Column("began_at", BigInteger),
    Column("cancelling_at", BigInteger),
    Column("finalizing_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("expires_at", BigInteger, nullable=False),
    Column("together", Boolean, nullable=False, server_default=false()),  # a line of it made several jobs
    Column("output_ms", BigInteger),  # that its output and errors are kept, where it was said
    Column("callback", Text),  # JSON of the BatchCallback: whom it tells of its end
    Column("crashes", Integer, nullable=False, server_default=text("0")),  # of bridges that read its input at `line`
    partial_index("batches_unfinished", "number", where=IS_UNFINISHED),
    Index("batches_tenant", "tenant", "created_at", "number"),
    partial_index("batches_key", "tenant", "key", unique=True, where=_KEYED),
    sqlite_autoincrement=True,
)

LINES: Final = Table(
    "lines",
    METADATA,
    Column("batch", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),  # in the input, from 1
    Column("custom_id", Text),
    Column("state", String(8), nullable=False),
    Column("jobs", Integer, nullable=False),  # how many it made
    Column("tokens", BigInteger, nullable=False),  # reserved for it
    Column("text", LargeBinary),  # the line, while its answer depends on it
    Column("code", String(32)),  # of one that failed
    Column("reason", Text),  # of one that was refused
    Column("param", String(128)),  # the field that was at fault
    partial_index("lines_named", "batch", "custom_id", where=_NAMED),
    partial_index("lines_refused", "batch", "number", where=IS_REFUSED),
)
