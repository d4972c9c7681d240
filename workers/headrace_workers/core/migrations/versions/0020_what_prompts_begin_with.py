"""What prompts begin with"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("steps", sa.Column("prefix", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("steps", "prefix")
