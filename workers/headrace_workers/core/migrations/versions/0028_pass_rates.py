"""Pass rates by tenant and criterion, as they were last worked out"""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pass_rates",
        sa.Column("tenant", sa.String(length=64), primary_key=True),
        sa.Column("criterion", sa.String(length=128), primary_key=True),
        sa.Column("version", sa.String(length=64), primary_key=True),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("low", sa.Float(), nullable=False),
        sa.Column("high", sa.Float(), nullable=False),
        sa.Column("level", sa.Float(), nullable=False),
        sa.Column("labels", sa.BigInteger(), nullable=False),
        sa.Column("verdicts", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("computed_at", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("pass_rates")
