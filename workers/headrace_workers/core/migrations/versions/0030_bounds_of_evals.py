"""How many bytes evals and their runs keep"""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

_KEPT = sa.text("removed_at IS NULL")


def upgrade() -> None:
    for table in ("evals", "eval_runs"):
        op.add_column(table, sa.Column("bytes", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
    op.create_index("eval_runs_tenant", "eval_runs", ["tenant"], postgresql_where=_KEPT, sqlite_where=_KEPT)


def downgrade() -> None:
    op.drop_index("eval_runs_tenant", "eval_runs")
    for table in ("eval_runs", "evals"):
        op.drop_column(table, "bytes")
