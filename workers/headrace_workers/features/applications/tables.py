"""The tables of applications. `scope` is a tenant; "" is for applications that all tenants share."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text, UniqueConstraint

from headrace_workers.core.tables import METADATA, Serial

# A version never changes, and is never removed: an accepted job may name it.
APPLICATION_VERSIONS: Final = Table(
    "application_versions",
    METADATA,
    Column("scope", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),  # from 1
    Column("digest", String(64), nullable=False),  # SHA-256 of the definition, in hex
    Column("definition", Text, nullable=False),  # JSON: all that the file resolves to
    Column("pushed_at", BigInteger, nullable=False),
    Column("pushed_by", Text, nullable=False),
    UniqueConstraint("scope", "name", "digest"),
)

APPLICATION_LABELS: Final = Table(
    "application_labels",
    METADATA,
    Column("scope", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("label", String(64), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("moved_at", BigInteger, nullable=False),
)

# The history of labels.
APPLICATION_MOVES: Final = Table(
    "application_moves",
    METADATA,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("scope", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    Column("label", String(64), nullable=False),
    Column("from_number", Integer),  # absent for a new label
    Column("to_number", Integer, nullable=False),
    Column("who", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("why", Text),
    Column("gate", String(16)),  # passed | skipped | rollback; absent where the label needs no gate
    Index("application_moves_name", "scope", "name", "id"),
)

# The last test of each version.
APPLICATION_TESTS: Final = Table(
    "application_tests",
    METADATA,
    Column("scope", String(64), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("models", Text, nullable=False),  # JSON: the identity of each model by its alias, while it was tested
    Column("report", Text, nullable=False),  # JSON
)
