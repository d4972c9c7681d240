"""Which documents an answer rests on; how far those are who follow changes"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "uses",
        sa.Column("entry_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("document_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
    )
    op.create_index("uses_document", "uses", ["document_id"])
    op.create_table(
        "followers",
        sa.Column("holder", sa.String(length=128), primary_key=True),
        sa.Column("kind", sa.String(length=8), primary_key=True),
        sa.Column("xact", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("followers")
    op.drop_table("uses")
