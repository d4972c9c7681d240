"""Which bridge reads which partitions"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "readers",
        sa.Column("name", sa.String(length=128), primary_key=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
    )
    op.add_column("positions", sa.Column("reader", sa.String(length=128)))


def downgrade() -> None:
    op.drop_column("positions", "reader")
    op.drop_table("readers")
