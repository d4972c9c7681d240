"""Virtual times of each queue, lane, urgency, tenant and batch; what makes a step urgent apart from when it expires"""

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None

_NEVER = 2**62
_READY = sa.text("state = 'ready'")
_INDEXES = {
    "steps_ready": ["queue", "lane", "rank", "{}", "turn", "job_id"],
    "steps_ready_group": ["queue", "group_key", "lane", "rank", "{}", "turn", "job_id"],
}
_LIVE = "steps.state IN ('ready', 'waiting', 'parked', 'held', 'leased')"
_WHERE = f"2 * steps.rank + (CASE WHEN steps.due >= {_NEVER} THEN 1 ELSE 0 END)"


def upgrade() -> None:
    op.add_column("steps", sa.Column("due", sa.BigInteger(), nullable=False, server_default=sa.text(str(_NEVER))))
    # A batch's lines, and units, expire at a deadline that nobody chose for them.
    jobs = "SELECT id FROM jobs WHERE batch IS NULL AND subject IS NULL"
    op.execute(
        f"UPDATE steps SET due = deadline WHERE deadline < {_NEVER} AND {_LIVE} AND job_id IN ({jobs})"  # noqa: S608
    )
    _order_by("due")
    op.drop_table("turns")
    op.create_table(
        "turns",
        sa.Column("queue", sa.String(length=96), primary_key=True),
        sa.Column("lane", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("urgency", sa.SmallInteger(), primary_key=True, autoincrement=False),
        sa.Column("tenant", sa.String(length=64), primary_key=True),
        sa.Column("flow", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("weight", sa.SmallInteger(), nullable=False, server_default=sa.text("1")),
        sa.Column("turn", sa.BigInteger(), nullable=False),
    )
    # What waits keeps its turns. Each clock begins at the first of them, and each flow goes on behind its last.
    for tenant, flow, turn in (("''", "0", "min"), ("jobs.tenant", "coalesce(jobs.batch, 0)", "max")):
        op.execute(f"""
            INSERT INTO turns (queue, lane, urgency, tenant, flow, turn)
            SELECT steps.queue, steps.lane, {_WHERE}, {tenant}, {flow}, {turn}(steps.turn)
            FROM steps JOIN jobs ON jobs.id = steps.job_id WHERE {_LIVE} GROUP BY 1, 2, 3, 4, 5
        """)  # noqa: S608 - our own words


def downgrade() -> None:
    op.drop_table("turns")
    op.create_table(
        "turns",
        sa.Column("tenant", sa.String(length=64), primary_key=True),
        sa.Column("turn", sa.BigInteger(), nullable=False),
    )
    op.execute(f"INSERT INTO turns SELECT '', coalesce(min(turn), 0) FROM steps WHERE {_LIVE}")  # noqa: S608
    _order_by("deadline")
    op.drop_column("steps", "due")


def _order_by(column: str) -> None:
    for name, columns in _INDEXES.items():
        op.drop_index(name, "steps")
        names = [each.format(column) for each in columns]
        op.create_index(name, "steps", names, postgresql_where=_READY, sqlite_where=_READY)
