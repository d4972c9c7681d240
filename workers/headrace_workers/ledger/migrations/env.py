"""Alembic's entry point. The caller hands in the connection; there is no offline mode."""

from alembic import context

from headrace_workers.ledger.tables import (  # noqa: F401 - all tables are in METADATA when these are imported
    audits,
    batches,
    door,
    evals,
    labels,
    policies,
    probes,
    rates,
    recall,
    responses,
    stores,
    webhooks,
)
from headrace_workers.ledger.tables.core import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
