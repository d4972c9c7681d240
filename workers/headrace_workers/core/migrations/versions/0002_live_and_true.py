"""Refusals that their senders find, correlation ids, and which ledger this is"""

import uuid
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_LOOKED_UP = ("refers_to", "key", "ce_id", "ce_subject", "correlationid")


def upgrade() -> None:
    op.add_column("jobs", sa.Column("correlationid", sa.Text(), nullable=True))
    op.create_index("jobs_correlation", "jobs", ["correlationid"], **_where_there("correlationid"))

    op.add_column("dead_letters", sa.Column("refers_to", sa.String(length=36), nullable=True))
    op.add_column("dead_letters", sa.Column("partition", sa.Integer(), nullable=True))
    op.add_column("dead_letters", sa.Column("offset", sa.BigInteger(), nullable=True))
    for name in ("key", "ce_id", "ce_subject", "correlationid", "traceparent"):
        op.add_column("dead_letters", sa.Column(name, sa.Text(), nullable=True))
    op.add_column("dead_letters", sa.Column("size", sa.Integer(), nullable=True))
    # A refusal ends no job any more: it refers to one.
    op.execute("UPDATE dead_letters SET refers_to = job_id, job_id = NULL WHERE stage = 'ingest'")
    for name in _LOOKED_UP:
        op.create_index(f"dead_letters_{name}", "dead_letters", [name], **_where_there(name))

    op.add_column("steps", sa.Column("read_bytes", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("claims", sa.Column("renewed_at", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.execute("UPDATE claims SET renewed_at = coalesce(started_at, claimed_at)")
    op.add_column("budgets", sa.Column("learnt_at", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.create_table(
        "looks",
        sa.Column("what", sa.String(length=32), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("what"),
    )

    identity = op.create_table(
        "identity", sa.Column("id", sa.String(length=36), nullable=False), sa.PrimaryKeyConstraint("id")
    )
    op.bulk_insert(identity, [{"id": str(uuid.uuid4())}])

    op.add_column("outbox", sa.Column("set_aside_at", sa.BigInteger(), nullable=True))
    op.add_column("outbox", sa.Column("set_aside_reason", sa.Text(), nullable=True))
    op.create_index("outbox_set_aside", "outbox", ["key"], **_where_there("set_aside_at"))
    if op.get_bind().dialect.name == "postgresql":  # the other one counts no characters
        op.alter_column("outbox", "key", type_=sa.Text())

    op.create_table(
        "positions",
        sa.Column("topic", sa.String(length=255), primary_key=True),
        sa.Column("partition", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("log", sa.String(length=64), nullable=False),
        sa.Column("next", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "troubles",
        sa.Column("holder", sa.String(length=128), primary_key=True),
        sa.Column("subject", sa.String(length=255), primary_key=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("identity")
    op.drop_table("troubles")
    op.drop_table("positions")
    op.drop_index("outbox_set_aside", "outbox")
    for name in ("set_aside_reason", "set_aside_at"):
        op.drop_column("outbox", name)
    op.drop_table("looks")
    for table, name in (("budgets", "learnt_at"), ("claims", "renewed_at"), ("steps", "read_bytes")):
        op.drop_column(table, name)
    for name in _LOOKED_UP:
        op.drop_index(f"dead_letters_{name}", "dead_letters")
    op.execute("UPDATE dead_letters SET job_id = refers_to WHERE stage = 'ingest'")
    for name in (
        "size",
        "traceparent",
        "correlationid",
        "ce_subject",
        "ce_id",
        "key",
        "offset",
        "partition",
        "refers_to",
    ):
        op.drop_column("dead_letters", name)
    op.drop_index("jobs_correlation", "jobs")
    op.drop_column("jobs", "correlationid")


def _where_there(name: str) -> dict[str, Any]:
    there = sa.text(f'"{name}" IS NOT NULL')
    return {"postgresql_where": there, "sqlite_where": there}
