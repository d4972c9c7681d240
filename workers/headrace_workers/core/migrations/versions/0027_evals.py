"""Evals of OpenAI's clients, their runs, and what came of each item"""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "evals",
        sa.Column("number", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(length=64), nullable=False, unique=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("data_source_config", sa.Text(), nullable=False),
        sa.Column("testing_criteria", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("evals_tenant", "evals", ["tenant", "number"])
    op.create_table(
        "eval_runs",
        sa.Column("number", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(length=64), nullable=False, unique=True),
        sa.Column("eval", sa.BigInteger(), nullable=False),
        sa.Column("eval_id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("testing_criteria", sa.Text(), nullable=False),
        sa.Column("data_source", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("batch", sa.String(length=64), nullable=True),
        sa.Column("output_read", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("errors_read", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("total", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("tally", sa.Text(), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("removed_at", sa.BigInteger(), nullable=True),
    )
    op.create_index("eval_runs_eval", "eval_runs", ["eval", "number"])
    for name, column, condition in (
        ("eval_runs_open", "number", "ended_at IS NULL"),
        ("eval_runs_removed", "removed_at", "removed_at IS NOT NULL"),
    ):
        op.create_index(
            name, "eval_runs", [column], postgresql_where=sa.text(condition), sqlite_where=sa.text(condition)
        )
    op.create_table(
        "eval_items",
        sa.Column("run", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("item", sa.Text(), nullable=False),
        sa.Column("status", sa.String(length=8), nullable=True),
        sa.Column("sample", sa.Text(), nullable=True),
        sa.Column("results", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("eval_items")
    op.drop_table("eval_runs")
    op.drop_table("evals")
