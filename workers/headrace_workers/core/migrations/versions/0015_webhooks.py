"""Webhooks: who listens, what is told, and which jobs have a callback of their own"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_LISTENS = sa.text("origin = 'registered' AND disabled IS NULL")
_OPEN_UNIT = sa.text("state = 'active' AND subject IS NOT NULL")


def upgrade() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.String(length=36), primary_key=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("origin", sa.String(length=12), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("whole", sa.Boolean(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("hint", sa.String(length=16), nullable=True),
        sa.Column("old_secret", sa.Text(), nullable=True),
        sa.Column("old_until", sa.BigInteger(), nullable=True),
        sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("pauses", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("paused_until", sa.BigInteger(), nullable=True),
        sa.Column("disabled", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("webhook_endpoints_listening", "webhook_endpoints", ["tenant"], postgresql_where=_LISTENS,
                    sqlite_where=_LISTENS)  # fmt: skip
    op.create_index("webhook_endpoints_tenant", "webhook_endpoints", ["tenant", "created_at"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.String(length=36), primary_key=True),
        sa.Column("endpoint_id", sa.String(length=36), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("type", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("attempted_at", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("ms", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.Column("replayed_at", sa.BigInteger(), nullable=True),
    )
    op.create_index("webhook_deliveries_endpoint", "webhook_deliveries", ["endpoint_id", "created_at"])
    op.create_table(
        "callbacks",
        sa.Column("job_id", sa.String(length=36), primary_key=True),
        sa.Column("wish", sa.Text(), nullable=False),
    )
    # How many deliveries of one endpoint are open is asked each time that there are new ones.
    op.create_index("jobs_open_units", "jobs", ["endpoint"], postgresql_where=_OPEN_UNIT, sqlite_where=_OPEN_UNIT)


def downgrade() -> None:
    op.drop_index("jobs_open_units", "jobs")
    op.drop_table("callbacks")
    op.drop_table("webhook_deliveries")
    op.drop_table("webhook_endpoints")
