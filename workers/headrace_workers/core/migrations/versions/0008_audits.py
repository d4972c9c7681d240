"""Audits of what was served by likeness, and how the scopes of the cache stand"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _partial(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))


def upgrade() -> None:
    op.create_table(
        "audits",
        sa.Column("id", sa.String(length=36), primary_key=True),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("entry_id", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("scope", sa.String(length=64), nullable=False),
        sa.Column("similarity", sa.Float(), nullable=False),
        sa.Column("stratum", sa.SmallInteger(), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.Column("served_at", sa.BigInteger(), nullable=False),
        sa.Column("question", sa.Text(), nullable=True),
        sa.Column("served", sa.Text(), nullable=True),
        sa.Column("fresh", sa.Text(), nullable=True),
        sa.Column("label", sa.String(length=8), nullable=True),
        sa.Column("labelled_by", sa.String(length=128), nullable=True),
        sa.Column("labelled_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("judged", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    _partial("audits_waiting", "audits", ["scope"], "label IS NULL")
    _partial("audits_unknown", "audits", ["served_at"], "label = 'unknown'")
    _partial("audits_unjudged", "audits", ["scope"], "label IS NOT NULL AND NOT judged")
    op.create_index("audits_scope", "audits", ["scope", "served_at"])
    op.create_index("audits_entry", "audits", ["entry_id"])
    op.create_index("audits_served", "audits", ["served_at"])
    op.create_table(
        "standings",
        sa.Column("scope", sa.String(length=64), primary_key=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.Column("figures", sa.Text(), nullable=False),
        sa.Column("least", sa.Float(), nullable=True),
        sa.Column("fits", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("since", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
    )
    op.add_column("serves", sa.Column("stratum", sa.SmallInteger(), nullable=True))
    op.add_column("serves", sa.Column("share", sa.Float(), nullable=True))
    _partial("serves_drawn", "serves", ["scope", "served_at"], "share > 0")


def downgrade() -> None:
    op.drop_index("serves_drawn", "serves")
    op.drop_column("serves", "share")
    op.drop_column("serves", "stratum")
    op.drop_table("standings")
    op.drop_table("audits")
