"""Steps of a stage that is passed again, that wait for another job or for a person, and that carry context"""

import warnings

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NEVER = 2**62
_OPEN = "state IN ('ready', 'waiting', 'parked', 'held')"


_UNIT = "state = 'active' AND subject IS NOT NULL"
_JOB = "state = 'active' AND subject IS NULL"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("subject", sa.String(length=36), nullable=True))
    op.add_column("jobs", sa.Column("endpoint", sa.Text(), nullable=True))
    op.drop_index("jobs_active", "jobs")
    _index("jobs_active", "accepted_at", _JOB, "jobs")
    _index("jobs_units", "subject", _UNIT, "jobs")

    op.drop_index("steps_expiring", "steps")
    with op.batch_alter_table("steps") as steps:
        steps.add_column(sa.Column("ordinal", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))
        steps.add_column(sa.Column("waits_for", sa.String(length=36), nullable=True))
        steps.add_column(sa.Column("woken_by", sa.String(length=36), nullable=True))
        steps.add_column(sa.Column("context", sa.LargeBinary(), nullable=True))
    _key("job_id", "stage", "ordinal")
    _index("steps_parked", "waits_for", "state = 'parked'")
    _index("steps_held", "ready_at", "state = 'held'")
    _index("steps_expiring", "deadline", f"deadline < {_NEVER} AND {_OPEN}")


def downgrade() -> None:
    op.execute("DELETE FROM steps WHERE job_id IN (SELECT id FROM jobs WHERE subject IS NOT NULL)")
    op.execute("DELETE FROM jobs WHERE subject IS NOT NULL")
    for name in ("jobs_units", "jobs_active"):
        op.drop_index(name, "jobs")
    for name in ("endpoint", "subject"):
        op.drop_column("jobs", name)
    _index("jobs_active", "accepted_at", "state = 'active'", "jobs")
    op.execute("DELETE FROM steps WHERE ordinal > 0")
    op.execute("UPDATE steps SET state = 'ready' WHERE state IN ('parked', 'held')")
    for name in ("steps_expiring", "steps_held", "steps_parked"):
        op.drop_index(name, "steps")
    _key("job_id", "stage")
    with op.batch_alter_table("steps") as steps:
        for name in ("context", "woken_by", "waits_for", "ordinal"):
            steps.drop_column(name)
    _index("steps_expiring", "deadline", f"deadline < {_NEVER} AND state IN ('ready', 'waiting')")


def _key(*columns: str) -> None:
    """Make these the primary key of steps."""
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint("steps_pkey", "steps", type_="primary")
        op.create_primary_key("steps_pkey", "steps", list(columns))
        return
    # The other one changes no key of a table: it is made anew, with its indexes, and filled.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=sa.exc.SAWarning)  # that the old key is not the new one
        with op.batch_alter_table("steps", recreate="always") as steps:
            steps.create_primary_key("steps_pkey", list(columns))


def _index(name: str, column: str, where: str, table: str = "steps") -> None:
    op.create_index(name, table, [column], postgresql_where=sa.text(where), sqlite_where=sa.text(where))
