"""What an upload was completed with, so that the same again is answered the same"""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("completion", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("uploads", "completion")
