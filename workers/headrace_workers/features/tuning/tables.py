"""The tables of tuning runs, their events and their checkpoints. They outlive the job of a run."""

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text, text

from headrace_workers.core.tables import METADATA, Serial, partial_index

IS_OPEN: Final = text("tuning_runs.finished_at IS NULL")

RUNS: Final = Table(
    "tuning_runs",
    METADATA,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("job_id", String(36), nullable=False, unique=True),
    Column("tenant", String(64), nullable=False),
    Column("model", String(64), nullable=False),  # the base
    Column("training_file", String(64), nullable=False),
    Column("validation_file", String(64)),
    Column("job", Text, nullable=False),  # JSON of the TuningJob
    Column("state", String(16), nullable=False),  # validating_files | queued | running | succeeded | failed | cancelled
    Column("created_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("estimated_finish", BigInteger),
    Column("error", Text),  # JSON object: code, message, param
    Column("trained_tokens", BigInteger),
    Column("aliases", Text),  # JSON list, from the preparation on
    Column("result_file", String(64)),
    Column("last_event", Integer, nullable=False, server_default=text("0")),  # the number of the newest
    Index("tuning_runs_tenant", "tenant", "number"),
    partial_index("tuning_runs_open", "model", where=IS_OPEN),
    sqlite_autoincrement=True,
)

EVENTS: Final = Table(
    "tuning_events",
    METADATA,
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("level", String(8), nullable=False),  # info | warn | error
    Column("message", Text, nullable=False),
    Column("data", Text),  # JSON object of figures, of a step
)

CHECKPOINTS: Final = Table(
    "tuning_checkpoints",
    METADATA,
    Column("run", BigInteger, primary_key=True, autoincrement=False),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("uri", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("metrics", Text, nullable=False),  # JSON object
)
