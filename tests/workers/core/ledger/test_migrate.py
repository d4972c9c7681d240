import importlib
import pkgutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Column, Index, Integer, MetaData, Table, inspect, text
from sqlalchemy.engine import Engine

import headrace_workers
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.feature import Feature, install, installed
from headrace_workers.core.migrate import _digest, _tables, migrate, require_current
from headrace_workers.core.sql.database import connect, reading, writing
from headrace_workers.core.tables import METADATA
from headrace_workers.wiring.features import FEATURES


def _change(engine: Engine, statement: str) -> None:
    with writing(engine) as tx:
        tx.execute(text(statement))


def test_each_table_of_the_code_is_named_by_its_feature():
    """Else it would be made only if something had imported its module."""
    for module in pkgutil.walk_packages(headrace_workers.__path__, "headrace_workers."):
        if module.name.endswith("tables") and ".cli." not in module.name:
            importlib.import_module(module.name)
    assert {table.name for table in _tables()} == set(METADATA.tables)
    named = {table.name for feature in installed() for table in feature.tables()}
    assert {"webhook_endpoints", "audits", "standings", "batches"} <= named


def test_an_empty_ledger_is_refused_with_the_remedy(empty_url):
    with pytest.raises(ConfigurationError, match=r"and \d+ more: run `headrace ledger migrate`"):
        require_current(connect(empty_url))


def test_two_processes_at_once_both_make_the_tables(empty_url):
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: migrate(connect(empty_url)), range(2))) == [len(_tables())] * 2
    require_current(connect(empty_url))


def test_the_table_of_a_feature_is_made_where_it_is_missing(empty_url):
    engine = connect(empty_url)
    migrate(engine)
    table = Table("own", MetaData(), Column("id", Integer, primary_key=True))
    install((*FEATURES, Feature(name="own", tables=lambda: (table,))))
    try:
        with pytest.raises(ConfigurationError, match=r"lacks the tables own: run `headrace ledger migrate`"):
            require_current(engine)
        for _ in range(2):  # the second finds it there
            migrate(engine)
        require_current(engine)
        assert inspect(engine).has_table("own")
    finally:
        install(FEATURES)


@pytest.mark.parametrize("check", [migrate, require_current])
def test_a_ledger_that_lost_a_table_is_refused_and_not_mended(empty_url, check):
    """An empty table in its place would hide the loss."""
    engine = connect(empty_url)
    migrate(engine)
    _change(engine, "DROP TABLE accepted")
    with pytest.raises(ConfigurationError, match="has lost the tables accepted: restore it from a backup"):
        check(engine)


@pytest.mark.parametrize("check", [migrate, require_current])
def test_a_ledger_of_another_version_is_refused_with_the_remedy(empty_url, check):
    engine = connect(empty_url)
    migrate(engine)
    _change(engine, "UPDATE table_stamps SET digest = 'another' WHERE name = 'steps'")
    with pytest.raises(
        ConfigurationError, match=r"table steps was made by another version.*HEADRACE_LEDGER.*#a-new-ledger"
    ):
        check(engine)
    _change(engine, "CREATE TABLE alembic_version (version_num VARCHAR(32))")
    with pytest.raises(ConfigurationError, match=r"by an earlier version.*HEADRACE_LEDGER"):
        check(engine)


@pytest.mark.parametrize(
    "other",
    [
        Table("own", MetaData(), Column("id", Integer)),
        Table("own", MetaData(), Column("id", Integer, primary_key=True), Column("more", Integer)),
        Table("own", MetaData(), Column("id", Integer, primary_key=True, server_default="1")),
        Table("own", MetaData(), Column("id", Integer, primary_key=True), Index("own_id", "id")),
        Table(
            "own", MetaData(), Column("id", Integer, primary_key=True), Index("own_id", "id", sqlite_where=text("id"))
        ),
    ],
)
def test_each_change_of_a_table_changes_its_digest(other):
    assert _digest(other) != _digest(Table("own", MetaData(), Column("id", Integer, primary_key=True)))


def test_each_ledger_has_an_identity_of_its_own(empty_url):
    engine = connect(empty_url)
    migrate(engine)
    migrate(engine)
    with reading(engine) as tx:
        (found,) = tx.execute(text("SELECT id FROM identity")).scalars()
    assert len(found) == 36
