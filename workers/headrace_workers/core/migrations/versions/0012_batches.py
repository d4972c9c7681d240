"""Files and batches"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def _partial(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    op.create_index(name, table, columns, unique=unique, postgresql_where=sa.text(where), sqlite_where=sa.text(where))


def _count(name: str, kind: type[sa.Integer] = sa.BigInteger) -> sa.Column[int]:
    return sa.Column(name, kind(), server_default=sa.text("0"), nullable=False)


def upgrade() -> None:
    serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "files",
        sa.Column("id", sa.String(length=64), primary_key=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
    )
    op.create_index("files_tenant", "files", ["tenant", "created_at", "id"])
    _partial("files_expiring", "files", ["expires_at"], "expires_at IS NOT NULL")
    op.create_table(
        "pieces",
        sa.Column("file_id", sa.String(length=64), primary_key=True),
        sa.Column("number", sa.Integer(), primary_key=True),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "batches",
        sa.Column("number", serial, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(length=64), nullable=False, unique=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=True),
        sa.Column("endpoint", sa.String(length=64), nullable=True),
        sa.Column("input_file", sa.String(length=64), nullable=False),
        sa.Column("output_file", sa.String(length=64), nullable=True),
        sa.Column("error_file", sa.String(length=64), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("defaults", sa.Text(), nullable=False),
        sa.Column("window", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        _count("position"),
        _count("line", sa.Integer),
        sa.Column("read", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        _count("taken"),
        _count("completed"),
        _count("failed"),
        _count("cached"),
        _count("prompt_tokens"),
        _count("completion_tokens"),
        sa.Column("max_tokens", sa.BigInteger(), nullable=True),
        _count("reserved"),
        _count("spent"),
        sa.Column("exhausted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=True),
        sa.Column("cancelling_at", sa.BigInteger(), nullable=True),
        sa.Column("finalizing_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("together", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("output_ms", sa.BigInteger(), nullable=True),
        sqlite_autoincrement=True,
    )
    _partial("batches_unfinished", "batches", ["number"], "ended_at IS NULL")
    op.create_index("batches_tenant", "batches", ["tenant", "created_at", "number"])
    _partial("batches_key", "batches", ["tenant", "key"], "key IS NOT NULL", unique=True)
    op.create_table(
        "lines",
        sa.Column("batch", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("custom_id", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("jobs", sa.Integer(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=True),
        sa.Column("code", sa.String(length=32), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
    )
    _partial("lines_named", "lines", ["batch", "custom_id"], "custom_id IS NOT NULL")
    _partial("lines_refused", "lines", ["batch", "number"], "state = 'refused'")
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=64), primary_key=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("purpose", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("file_id", sa.String(length=64), nullable=True),
        sa.Column("file_seconds", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
    )
    _partial("uploads_pending", "uploads", ["expires_at"], "state = 'pending'")
    op.create_table(
        "parts",
        sa.Column("id", sa.String(length=64), primary_key=True),
        sa.Column("upload_id", sa.String(length=64), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("parts_upload", "parts", ["upload_id"])
    op.add_column("jobs", sa.Column("batch", sa.BigInteger(), nullable=True))
    op.add_column("jobs", sa.Column("line", sa.Integer(), nullable=True))
    _partial("jobs_of_batches", "jobs", ["batch", "line"], "batch IS NOT NULL AND state = 'active'")
    _partial("jobs_ended_of_batches", "jobs", ["batch", "line"], "batch IS NOT NULL AND state <> 'active'")


def downgrade() -> None:
    op.drop_index("jobs_ended_of_batches", "jobs")
    op.drop_index("jobs_of_batches", "jobs")
    op.drop_column("jobs", "line")
    op.drop_column("jobs", "batch")
    for table in ("parts", "uploads", "lines", "batches", "pieces", "files"):
        op.drop_table(table)
