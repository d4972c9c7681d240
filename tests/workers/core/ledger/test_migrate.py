import importlib
import pkgutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Column, Index, Integer, MetaData, Table, inspect, text
from sqlalchemy.engine import Engine

import headrace_workers
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.feature import Feature, install, installed
from headrace_workers.core.migrate import _digest, headrace_tables, migrate, require_current
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
    assert {table.name for table in headrace_tables()} == set(METADATA.tables)
    named = {table.name for feature in installed() for table in feature.tables()}
    assert {"webhook_endpoints", "audits", "standings", "batches"} <= named


def test_an_empty_ledger_is_refused_with_the_remedy(empty_url):
    with pytest.raises(ConfigurationError, match=r"no tables yet: run `headrace init`, or `headrace ledger migrate`"):
        require_current(connect(empty_url))


def test_two_processes_at_once_both_make_the_tables(empty_url):
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: migrate(connect(empty_url)), range(2))) == [len(headrace_tables())] * 2
    require_current(connect(empty_url))


def test_the_table_of_a_feature_is_made_where_it_is_missing(empty_url):
    engine = connect(empty_url)
    migrate(engine)
    table = Table("own", MetaData(), Column("id", Integer, primary_key=True))
    install((*FEATURES, Feature(name="own", tables=lambda: (table,))))
    try:
        with pytest.raises(ConfigurationError, match=r"lacks the tables own: run `headrace init`"):
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


@pytest.mark.parametrize("table", ["table_stamps", "alembic_version"])
@pytest.mark.parametrize("check", [migrate, require_current])
def test_a_ledger_from_before_migrations_had_numbers_is_refused_with_the_remedy(empty_url, check, table):
    engine = connect(empty_url)
    _change(engine, f"CREATE TABLE {table} (name VARCHAR(63), digest VARCHAR(12))")
    with pytest.raises(
        ConfigurationError, match=r"by an earlier version, before 0\.2\.0\. .*HEADRACE_LEDGER.*#a-new-ledger"
    ):
        check(engine)


@pytest.mark.parametrize("check", [migrate, require_current])
def test_the_table_of_a_feature_that_was_defined_otherwise_is_refused(empty_url, check):
    engine = connect(empty_url)
    own = Table("own", MetaData(), Column("id", Integer, primary_key=True))
    other = Table("own", MetaData(), Column("id", Integer, primary_key=True), Column("more", Integer))
    try:
        install((*FEATURES, Feature(name="own", tables=lambda: (own,))))
        migrate(engine)
        install((*FEATURES, Feature(name="own", tables=lambda: (other,))))
        with pytest.raises(ConfigurationError, match="table own was made by another version of its feature"):
            check(engine)
    finally:
        install(FEATURES)


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
