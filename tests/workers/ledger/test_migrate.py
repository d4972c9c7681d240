"""Bringing tables up to date."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from headrace_schemas.errors import ConfigurationError
from headrace_workers.ledger.database import connect, reading
from headrace_workers.ledger.migrate import migrate, newest, require_current
from headrace_workers.ledger.tables import METADATA


def test_migrations_make_the_tables_that_the_code_has(ledger):
    """Nothing was added to the tables without a migration."""
    with reading(ledger.engine) as tx:
        assert compare_metadata(MigrationContext.configure(tx), METADATA) == []


def test_an_empty_ledger_is_refused_with_the_remedy(ledger_url):
    """A bridge says what to run, instead of failing at the first query."""
    with pytest.raises(ConfigurationError, match="headrace ledger migrate"):
        require_current(connect(ledger_url))


def test_two_migrations_at_once_both_succeed(ledger_url):
    """Several processes may start at once on an empty database."""
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: migrate(connect(ledger_url)), range(2))) == [newest()] * 2
