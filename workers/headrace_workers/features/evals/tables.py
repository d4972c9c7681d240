"""The tables of evals: what is asked of each item, the runs (each carried by a batch), and the results of items."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text, text

from headrace_workers.core.tables import METADATA, Serial, partial_index

IS_OPEN: Final = text("eval_runs.ended_at IS NULL")

_REMOVED = text("removed_at IS NOT NULL")
_KEPT = text("removed_at IS NULL")

EVALS: Final = Table(
    "evals",
    METADATA,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("tenant", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("data_source_config", Text, nullable=False),  # JSON, as it was sent
    Column("testing_criteria", Text, nullable=False),  # JSON, as they were sent
    Column("metadata", Text, nullable=False),  # JSON object of texts
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False, server_default=text("0")),  # of all that was sent
    Index("evals_tenant", "tenant", "number"),
)

RUNS: Final = Table(
    "eval_runs",
    METADATA,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("eval", BigInteger, nullable=False),
    Column("eval_id", String(64), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("testing_criteria", Text, nullable=False),  # those of the eval
    Column("data_source", Text, nullable=False),  # JSON; content that came with it has become a file
    Column("metadata", Text, nullable=False),
    # queued | in_progress | canceling | completed | failed | canceled
    Column("state", String(16), nullable=False),
    Column("reason", Text),  # of one that failed as a whole
    Column("batch", String(64)),  # that carries it, once its items are written down
    Column("output_read", BigInteger, nullable=False, server_default=text("0")),  # bytes of the batch's output
    Column("errors_read", BigInteger, nullable=False, server_default=text("0")),
    Column("total", BigInteger, nullable=False, server_default=text("0")),  # items
    Column("tally", Text, nullable=False, server_default=text("'{}'")),  # JSON: what is counted of the items that ended
    Column("created_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("removed_at", BigInteger),  # its items are being forgotten
    Column("bytes", BigInteger, nullable=False, server_default=text("0")),  # of all that is kept of it
    Column("crashes", Integer, nullable=False, server_default=text("0")),  # of bridges that read its rows
    Index("eval_runs_eval", "eval", "number"),
    partial_index("eval_runs_open", "number", where=IS_OPEN),
    partial_index("eval_runs_tenant", "tenant", where=_KEPT),
    partial_index("eval_runs_removed", "removed_at", where=_REMOVED),
)

ITEMS: Final = Table(
    "eval_items",
    METADATA,
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),  # of the row, from 0
    Column("item", Text, nullable=False),  # JSON: the row
    Column("status", String(8)),  # pass | fail | error; absent while its job runs
    Column("sample", Text),  # JSON: what was asked and answered, or why not
    Column("results", Text),  # JSON: what each grader says
    Column("created_at", BigInteger, nullable=False),
)
