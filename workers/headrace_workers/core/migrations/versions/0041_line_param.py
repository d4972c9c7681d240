"""Which field of a batch's line was at fault"""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("lines", sa.Column("param", sa.String(length=128), nullable=True))


def downgrade() -> None:
    op.drop_column("lines", "param")
