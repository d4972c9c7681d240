"""Scores of ended jobs, counted by criterion and by why there is no value"""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "scores_counted",
        sa.Column("criterion", sa.String(length=64), primary_key=True),
        sa.Column("not_judged", sa.String(length=32), primary_key=True),
        sa.Column("scores", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("scores_counted")
