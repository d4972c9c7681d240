"""The id of the event that brought a job, where the job's id does not come from it"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("ce_id", sa.Text(), nullable=True))
    there = sa.text("ce_id IS NOT NULL")
    op.create_index("jobs_ce_id", "jobs", ["ce_id"], postgresql_where=there, sqlite_where=there)


def downgrade() -> None:
    op.drop_index("jobs_ce_id", "jobs")
    op.drop_column("jobs", "ce_id")
