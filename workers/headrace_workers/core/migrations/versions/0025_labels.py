"""Labels of people, and the verdicts of jobs that are no more"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "labels",
        sa.Column("id", sa.String(length=36), primary_key=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=9), nullable=False),
        sa.Column("about", sa.String(length=128), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("said_at", sa.BigInteger(), nullable=False),
        sa.Column("probability", sa.Float(), nullable=True),
        sa.Column("taken_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("labels_about", "labels", ["tenant", "kind", "about", "job_id"])
    op.create_table(
        "verdicts",
        sa.Column("job_id", sa.String(length=36), primary_key=True),
        sa.Column("kind", sa.String(length=9), primary_key=True),
        sa.Column("about", sa.String(length=128), primary_key=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=True),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("judged_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("verdicts_judged", "verdicts", ["judged_at"])


def downgrade() -> None:
    op.drop_table("verdicts")
    op.drop_table("labels")
