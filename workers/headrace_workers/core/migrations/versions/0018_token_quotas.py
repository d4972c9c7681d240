"""How many tokens tenants may use, and what is reserved of that"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "quotas",
        sa.Column("tenant", sa.String(length=64), primary_key=True),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("period", sa.String(length=8), nullable=False),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("reserved", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "reservations",
        sa.Column("job_id", sa.String(length=36), primary_key=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
    )
    there = sa.text(f"expires_at < {2**62}")
    op.create_index("reservations_waiting", "reservations", ["expires_at"], postgresql_where=there, sqlite_where=there)


def downgrade() -> None:
    op.drop_table("reservations")
    op.drop_table("quotas")
