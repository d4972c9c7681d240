"""Alembic's entry point. The caller hands in the connection; there is no offline mode."""

from alembic import context

from headrace_workers.ledger import (  # noqa: F401 - their tables are in METADATA, too
    audit_tables,
    batch_tables,
    door_tables,
    eval_tables,
    label_tables,
    rate_tables,
    recall_tables,
    response_tables,
    store_tables,
    webhook_tables,
)
from headrace_workers.ledger.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
