"""What is known of documents beside their text; the terms of their passages"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("documents", sa.Column("attributes", sa.Text(), server_default="{}", nullable=False))
    op.add_column("entries", sa.Column("asked_at", sa.BigInteger(), nullable=True))
    op.add_column("chunks", sa.Column("terms", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("entries", "asked_at")
    op.drop_column("chunks", "terms")
    op.drop_column("documents", "attributes")
