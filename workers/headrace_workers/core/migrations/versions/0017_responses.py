"""What responses were asked for"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "responses",
        sa.Column("job_id", sa.String(length=36), primary_key=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("asked_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("responses_asked", "responses", ["asked_at"])


def downgrade() -> None:
    op.drop_table("responses")
