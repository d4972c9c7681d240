"""How much each knowledge base is asked, and which guard refused what was nearly served"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "base_uses",
        sa.Column("tenant", sa.String(length=64), primary_key=True),
        sa.Column("knowledge", sa.String(length=64), primary_key=True),
        sa.Column("questions", sa.Float(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
    )
    op.add_column("audits", sa.Column("guard", sa.String(length=32), nullable=True))


def downgrade() -> None:
    op.drop_column("audits", "guard")
    op.drop_table("base_uses")
