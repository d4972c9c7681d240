"""Alembic's entry point. The caller hands in the connection; there is no offline mode."""

from alembic import context

from headrace_workers.core.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA, render_as_batch=True)
context.run_migrations()
