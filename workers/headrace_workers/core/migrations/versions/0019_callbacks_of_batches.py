"""Batches say themselves whom a webhook is to tell of their end"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("callback", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("batches", "callback")
