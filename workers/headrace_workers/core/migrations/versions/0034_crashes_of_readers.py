"""How often a bridge ended while it read a batch, or the rows of an eval's run"""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("batches", "eval_runs"):
        op.add_column(table, sa.Column("crashes", sa.Integer(), nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    for table in ("eval_runs", "batches"):
        op.drop_column(table, "crashes")
