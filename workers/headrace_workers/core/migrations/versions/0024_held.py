"""Since when a step is held, and when it is tried again by itself"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_HELD = sa.text("state = 'held'")
_NEVER = 2**62


def upgrade() -> None:
    op.add_column("steps", sa.Column("held_at", sa.BigInteger(), nullable=True))
    steps = sa.table("steps", sa.column("state"), sa.column("held_at"), sa.column("ready_at"))
    # What is held already waits for a person, since it became so.
    op.execute(steps.update().where(steps.c.state == "held").values(held_at=steps.c.ready_at, ready_at=_NEVER))
    op.create_index("steps_held_since", "steps", ["held_at"], postgresql_where=_HELD, sqlite_where=_HELD)


def downgrade() -> None:
    op.drop_index("steps_held_since", "steps")
    steps = sa.table("steps", sa.column("state"), sa.column("held_at"), sa.column("ready_at"))
    op.execute(steps.update().where(steps.c.state == "held").values(ready_at=steps.c.held_at))
    op.drop_column("steps", "held_at")
