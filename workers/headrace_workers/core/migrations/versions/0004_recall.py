"""Answers that may be given again, their changes and whom they went to; steps that wait no longer than they said"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_PENDING, _LIVE, _DIED = "state = 'pending'", "state = 'live'", "died_at IS NOT NULL"


def upgrade() -> None:
    op.create_table(
        "entries",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("scope", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("question", sa.Text(), nullable=True),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("saved_ms", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("died_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sqlite_autoincrement=True,
    )
    _index("entries_pending", "entries", ["key"], _PENDING, unique=True)
    _index("entries_live", "entries", ["key"], _LIVE, unique=True)
    _index("entries_expiring", "entries", ["expires_at"], _LIVE)
    _index("entries_died", "entries", ["died_at"], _DIED)
    op.create_index("entries_job", "entries", ["job_id"])
    op.create_table(
        "changes",
        sa.Column("number", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("xact", sa.BigInteger(), nullable=False),
        sa.Column("entry_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("changes_order", "changes", ["xact", "number"])
    op.create_table(
        "serves",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("entry_id", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("scope", sa.String(length=64), nullable=False),
        sa.Column("tier", sa.String(length=12), nullable=False),
        sa.Column("similarity", sa.Float(), nullable=True),
        sa.Column("first_job", sa.String(length=36), nullable=False),
        sa.Column("saved_tokens", sa.Integer(), nullable=False),
        sa.Column("saved_ms", sa.Float(), nullable=False),
        sa.Column("served_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("serves_job", "serves", ["job_id"])
    op.create_index("serves_entry", "serves", ["entry_id"])
    op.create_index("serves_at", "serves", ["served_at"])
    _index("jobs_subject", "jobs", ["subject"], "subject IS NOT NULL")
    _index("steps_parked_until", "steps", ["ready_at"], "state = 'parked'")
    # Nobody said how long these may wait.
    steps = sa.table("steps", sa.column("ready_at", sa.BigInteger()), sa.column("state", sa.String()))
    op.execute(steps.update().where(steps.c.state == "parked").values(ready_at=2**62))


def downgrade() -> None:
    op.drop_index("steps_parked_until", "steps")
    op.drop_index("jobs_subject", "jobs")
    for table in ("serves", "changes", "entries"):
        op.drop_table(table)


def _index(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, unique=unique, postgresql_where=condition, sqlite_where=condition)
