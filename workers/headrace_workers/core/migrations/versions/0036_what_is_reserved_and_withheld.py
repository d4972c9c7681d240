"""For which content of a job tokens are reserved, and what lines of a batch may not name"""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0034"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("reservations", sa.Column("digest", sa.String(length=64), nullable=True))
    op.add_column("batches", sa.Column("withheld", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("batches", "withheld")
    op.drop_column("reservations", "digest")
