"""With which probability a job was drawn to be judged"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("verdicts", sa.Column("probability", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("verdicts", "probability")
