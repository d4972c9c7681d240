"""Answers by their tenant, which may keep so many"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_LIVE = sa.text("state = 'live'")


def upgrade() -> None:
    op.create_index("entries_tenant", "entries", ["tenant", "id"], postgresql_where=_LIVE, sqlite_where=_LIVE)


def downgrade() -> None:
    op.drop_index("entries_tenant", "entries")
