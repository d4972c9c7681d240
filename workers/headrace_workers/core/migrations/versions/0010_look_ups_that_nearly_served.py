"""Audits of what was nearly served, a second fresh answer of some, and the number of each scope's claim"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audits", sa.Column("kind", sa.String(length=8), server_default="hit", nullable=False))
    op.add_column("audits", sa.Column("again", sa.Text(), nullable=True))
    op.add_column("audits", sa.Column("own", sa.String(length=8), nullable=True))
    op.add_column("standings", sa.Column("number", sa.Integer(), server_default=sa.text("0"), nullable=False))
    # When they came is not known any more: any order does, if each has a place of its own.
    op.execute(
        "UPDATE standings SET number = (SELECT count(*) FROM standings AS before WHERE before.scope <= standings.scope)"
    )


def downgrade() -> None:
    op.drop_column("standings", "number")
    op.execute("DELETE FROM audits WHERE kind <> 'hit'")
    op.drop_column("audits", "own")
    op.drop_column("audits", "again")
    op.drop_column("audits", "kind")
