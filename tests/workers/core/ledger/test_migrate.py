"""Bringing tables up to date."""

import importlib
import pkgutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Integer, MetaData, Table, inspect, text

import headrace_workers
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.feature import Feature, installed
from headrace_workers.core.migrate import _config, current, migrate, newest, require_current
from headrace_workers.core.sql.database import connect, reading, writing
from headrace_workers.core.tables import METADATA
from headrace_workers.wiring import features


def test_migrations_make_the_tables_that_the_code_has(ledger):
    """Nothing was added to the tables without a migration, wherever its table stands."""
    for module in pkgutil.walk_packages(headrace_workers.__path__, "headrace_workers."):
        if module.name.endswith("tables"):
            importlib.import_module(module.name)
    with reading(ledger.engine) as tx:
        assert compare_metadata(MigrationContext.configure(tx), METADATA) == []


def test_the_newest_revision_is_the_last_of_the_chain(empty_url):
    """Nobody asks Alembic for it: commands that migrate nothing need not wait for its import."""
    engine = connect(empty_url)
    assert current(engine) is None
    migrate(engine)
    assert current(engine) == newest() == ScriptDirectory.from_config(_config()).get_current_head()


def test_an_empty_ledger_is_refused_with_the_remedy(empty_url):
    """A bridge says what to run, instead of failing at the first query."""
    with pytest.raises(ConfigurationError, match="headrace ledger migrate"):
        require_current(connect(empty_url))


def test_two_migrations_at_once_both_succeed(empty_url):
    """Several processes may start at once on an empty database."""
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: migrate(connect(empty_url)), range(2))) == [newest()] * 2


def test_the_table_of_a_feature_is_made_where_it_is_missing(empty_url, monkeypatch):
    """A ledger that is up to date lacks the table of a feature that is new: the error says what to run, which helps."""
    engine = connect(empty_url)
    migrate(engine)
    table = Table("own", MetaData(), Column("id", Integer, primary_key=True))
    monkeypatch.setattr(features, "FEATURES", (*installed(), Feature(name="own", tables=lambda: (table,))))
    installed.cache_clear()
    try:
        with pytest.raises(ConfigurationError, match=r"lacks the tables own: run `headrace ledger migrate`"):
            require_current(engine)
        for _ in range(2):  # the second finds it there
            migrate(engine)
        require_current(engine)
        assert inspect(engine).has_table("own")
    finally:
        monkeypatch.undo()
        installed.cache_clear()


def test_a_ledger_that_lost_a_table_is_refused_and_not_mended(empty_url):
    """Its revision says that all is there. An empty table in its place would hide the loss."""
    engine = connect(empty_url)
    migrate(engine)
    with writing(engine) as tx:
        tx.execute(text("DROP TABLE accepted"))
    for check in (migrate, require_current):
        with pytest.raises(ConfigurationError, match="has lost the tables accepted: restore it from a backup"):
            check(engine)


def test_a_ledger_that_no_migration_starts_from_is_refused(empty_url):
    """It was made before the first release, or by a newer version: the error names its revision and what to do."""
    engine = connect(empty_url)
    migrate(engine)
    with writing(engine) as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = '0032'"))
    with pytest.raises(ConfigurationError, match=r"at revision 0032.*HEADRACE_LEDGER"):
        migrate(engine)
    with pytest.raises(ConfigurationError, match="at revision 0032"):
        require_current(engine)


def test_each_ledger_has_an_identity_of_its_own(empty_url):
    """It is written once, with the tables."""
    engine = connect(empty_url)
    migrate(engine)
    with reading(engine) as tx:
        (found,) = tx.execute(text("SELECT id FROM identity")).scalars()
    assert len(found) == 36


def test_the_way_back_leaves_no_table(empty_url):
    """But for Alembic's own."""
    engine = connect(empty_url)
    migrate(engine)
    with writing(engine) as tx:
        config = _config()
        config.attributes["connection"] = tx
        command.downgrade(config, "base")
        assert set(inspect(tx).get_table_names()) <= {"alembic_version"}
