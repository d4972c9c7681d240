"""Fingerprints of what was read, logs that did not match them, and whose topics a ledger belongs to"""

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("positions", sa.Column("fingerprints", sa.Text(), nullable=True))
    for name in ("back_at", "back_from", "back_to", "back_before"):
        op.add_column("positions", sa.Column(name, sa.BigInteger(), nullable=True))
    op.create_table(
        "deployment",
        sa.Column("name", sa.String(length=32), primary_key=True),
        sa.Column("value", sa.String(length=255), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("deployment")
    for name in ("back_before", "back_to", "back_from", "back_at", "fingerprints"):
        op.drop_column("positions", name)
