import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, select, text
from tests.services.eventually import eventually

from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.core import migrations
from headrace_workers.core.migrate import headrace_tables, migrate, require_current
from headrace_workers.core.sql.database import connect, reading, writing
from headrace_workers.core.tables import FOLLOWERS, MIGRATIONS

_PROGRAM = """
import sys
from pathlib import Path
import headrace_workers.wiring.features
from headrace_workers.core import migrations
from headrace_workers.core.migrate import migrate
from headrace_workers.core.sql.database import connect
migrations.FOLDER = Path(sys.argv[1])
migrate(connect(sys.argv[2]))
"""
_COLUMN = "ALTER TABLE followers ADD COLUMN note VARCHAR(20) DEFAULT 'none' NOT NULL;\n"
_LONG = {
    "postgresql": "SELECT pg_sleep(600);\n",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n;\n",
}
_INDEX = {
    "postgresql": "CREATE INDEX CONCURRENTLY IF NOT EXISTS followers_seen ON followers (seen_at);\n",
    "sqlite": "CREATE INDEX followers_seen ON followers (seen_at);\n",
}


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that adds a migration to a copy of ours, in SQL for each database, and returns the folder."""

    def _add(number: int, sql: str | dict[str, str]) -> Path:
        folder = tmp_path / f"until_{number}_{len(list(tmp_path.iterdir()))}"
        shutil.copytree(migrations.FOLDER, folder)
        for dialect in ("postgresql", "sqlite"):
            content = sql if isinstance(sql, str) else sql[dialect]
            (folder / f"{number:04}_more.{dialect}.sql").write_text(content)
        monkeypatch.setattr(migrations, "FOLDER", folder)
        return folder

    return _add


@pytest.fixture
def engine(empty_url: str) -> Engine:
    engine = connect(empty_url)
    migrate(engine)
    return engine


def _next() -> int:
    return len(migrations.migrations("sqlite")) + 1


def _numbers(engine: Engine) -> list[int]:
    with reading(engine) as tx:
        return list(tx.execute(select(MIGRATIONS.c.number).order_by(MIGRATIONS.c.number)).scalars())


def _columns(engine: Engine) -> set[str]:
    return {column["name"] for column in inspect(engine).get_columns("followers")}


def _indexes(engine: Engine) -> set[str | None]:
    return {index["name"] for index in inspect(engine).get_indexes("followers")}


def _follow(engine: Engine, holder: str) -> None:
    row = {"holder": holder, "kind": "entry", "xact": 1, "number": 2, "seen_at": 3}
    with writing(engine) as tx:
        tx.execute(FOLLOWERS.insert().values(row))


def _definition(engine: Engine) -> dict[str, Any]:
    """Return the tables of a database as it describes them, without the order of columns."""
    there = inspect(engine)
    definition: dict[str, Any] = {}
    for table in there.get_table_names():
        columns = [
            (column["name"], repr(column["type"]), column["nullable"], column["default"], column.get("autoincrement"))
            for column in there.get_columns(table)
        ]
        rest = there.get_pk_constraint(table), there.get_unique_constraints(table), there.get_check_constraints(table)
        definition[table] = sorted(columns), [str(part) for part in rest]
    with reading(engine) as tx:
        if engine.dialect.name == "postgresql":
            indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        else:
            indexes = "SELECT name, sql FROM sqlite_master WHERE type = 'index'"
            counted = "SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%' AND type = 'table'"
            definition["tables numbered by themselves"] = set(tx.execute(text(counted)).scalars())
        for name, sql in tx.execute(text(indexes)):
            definition[f"index {name}"] = " ".join(str(sql).split())
    return definition


def test_the_migrations_make_the_tables_of_the_code(engine, request, tmp_path):
    other = f"sqlite:///{tmp_path / 'other.db'}"
    if engine.dialect.name == "postgresql":
        other = request.getfixturevalue("postgres").create_database(f"other_{tmp_path.name[-20:]}")
    made = connect(other)
    for table in headrace_tables():
        table.create(made)
    by_code, by_migrations = _definition(made), _definition(engine)
    assert by_migrations.keys() == by_code.keys(), "run `make migration NAME=…`"
    for name, definition in by_code.items():
        assert by_migrations[name] == definition, f"{name} differs: run `make migration NAME=…`"
    made.dispose()


# A statement that only adds: what PostgreSQL, or SQLite, does beside running processes of the version before.
_COLUMN_DEFINITION = r"\w+ (?!.*\b(?:UNIQUE|PRIMARY|REFERENCES|CHECK)\b)(?:(?!.*NOT NULL)|(?=.*\bDEFAULT\b)).+"
_ADDS = re.compile(rf"CREATE TABLE|ALTER TABLE \w+ ADD COLUMN {_COLUMN_DEFINITION}$|INSERT INTO", re.DOTALL)
_MAKES_INDEX = re.compile(r"CREATE (UNIQUE )?INDEX (?P<concurrently>CONCURRENTLY IF NOT EXISTS )?\w+ ON (?P<table>\w+)")


def _against_the_rules(dialect: str, migration: migrations.Migration) -> list[str]:
    """Return the statements of a migration that processes of the version before may not outlive."""
    new = {match[1] for match in map(re.compile(r"CREATE TABLE (\w+)").match, migration.statements) if match}
    wrong = []
    for statement in migration.statements:
        if index := _MAKES_INDEX.match(statement):
            # One that is made beside running processes stands outside of the transaction of a migration.
            beside = dialect == "sqlite" or (index["concurrently"] and not new)
            good = index["table"] in new or beside
        else:
            alone = not any("CONCURRENTLY" in other for other in migration.statements)
            removes = statement.startswith(("DROP ", "ALTER TABLE")) and " DROP " in f" {statement}"
            good = alone and (bool(_ADDS.match(statement)) or (removes and 1 < migration.oldest < migration.number))
        if not good:
            wrong.append(statement)
    return wrong


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite"])
def test_a_migration_only_adds(dialect):
    all_of_them = migrations.migrations(dialect)
    assert [migration.number for migration in all_of_them] == list(range(1, len(all_of_them) + 1))
    assert [m.name for m in all_of_them] == [m.name for m in migrations.migrations("sqlite")]
    assert [m.oldest for m in all_of_them] == [m.oldest for m in migrations.migrations("sqlite")]
    assert [_against_the_rules(dialect, migration) for migration in all_of_them] == [[] for _ in all_of_them]


@pytest.mark.parametrize(
    ("oldest", "statements", "good"),
    [
        (1, ["CREATE TABLE a (\n  b INTEGER NOT NULL\n)", "CREATE INDEX a_b ON a (b)"], True),
        (1, ["ALTER TABLE jobs ADD COLUMN a INTEGER"], True),
        (1, ["ALTER TABLE jobs ADD COLUMN a INTEGER DEFAULT 0 NOT NULL"], True),
        (1, ["ALTER TABLE jobs ADD COLUMN a INTEGER NOT NULL"], False),
        (1, ["ALTER TABLE jobs ADD COLUMN a INTEGER UNIQUE"], False),
        (1, ["ALTER TABLE jobs DROP COLUMN a"], False),
        (2, ["ALTER TABLE jobs DROP COLUMN a"], True),
        (3, ["ALTER TABLE jobs DROP COLUMN a"], False),  # the code that uses it last would be refused by its own
        (1, ["DROP TABLE jobs"], False),
        (2, ["DROP TABLE jobs"], True),
        (1, ["ALTER TABLE jobs RENAME COLUMN a TO b"], False),
        (1, ["ALTER TABLE jobs ALTER COLUMN a TYPE BIGINT"], False),
        (1, ["CREATE INDEX a ON jobs (b)"], False),
        (1, ["CREATE INDEX CONCURRENTLY IF NOT EXISTS a ON jobs (b)"], True),
        (1, ["CREATE INDEX CONCURRENTLY a ON jobs (b)"], False),
        (1, ["ALTER TABLE jobs ADD COLUMN a TEXT", "CREATE INDEX CONCURRENTLY IF NOT EXISTS a ON jobs (a)"], False),
        (1, ["UPDATE jobs SET a = 1"], False),
    ],
)
def test_the_rule_for_migrations(oldest, statements, good):
    assert (_against_the_rules("postgresql", migrations.Migration(3, "a", oldest, tuple(statements))) == []) == good


def test_statements_are_read_without_comments(tmp_path, add):
    number = _next()
    add(
        number,
        "-- a note; with a semicolon\n-- oldest: 1\nCREATE TABLE a (\n  b TEXT DEFAULT ';' \n);\nDROP TABLE c;\n",
    )
    migration = migrations.migrations("sqlite")[-1]
    assert migration.statements == ("CREATE TABLE a (\n  b TEXT DEFAULT ';' \n)", "DROP TABLE c")
    assert (migration.number, migration.name, migration.oldest) == (number, "more", 1)


def test_a_ledger_with_data_is_upgraded_in_place(engine, add):
    _follow(engine, "before")
    add(_next(), _COLUMN)
    with pytest.raises(
        ConfigurationError, match=r"is at version 1, and this process needs version 2: run `headrace init`"
    ):
        require_current(engine)
    migrate(engine)
    require_current(engine)
    add(_next(), _INDEX)
    migrate(engine)
    with reading(engine) as tx:
        rows = tx.execute(text("SELECT holder, number, note FROM followers")).all()
    assert [tuple(row) for row in rows] == [("before", 2, "none")]
    assert "followers_seen" in _indexes(engine)
    assert _numbers(engine) == list(range(1, _next()))


def test_an_older_process_goes_on_beside_what_was_added(engine, add, monkeypatch):
    before = migrations.FOLDER
    add(_next(), _COLUMN)
    migrate(engine)
    monkeypatch.setattr(migrations, "FOLDER", before)
    require_current(engine)
    migrate(engine)
    _follow(engine, "older")
    with reading(engine) as tx:
        assert tx.execute(text("SELECT note FROM followers")).scalar() == "none"


@pytest.mark.parametrize("check", [migrate, require_current])
def test_an_older_process_is_refused_once_something_was_removed(engine, add, monkeypatch, check):
    before = migrations.FOLDER
    number = _next()
    add(number, _COLUMN)
    add(number + 1, f"-- oldest: {number}\nALTER TABLE followers DROP COLUMN note;\n")
    migrate(engine)
    require_current(engine)
    monkeypatch.setattr(migrations, "FOLDER", before)
    words = rf"at version {number + 1}, .* know version {number}; this one knows version {number - 1}: install"
    with pytest.raises(ConfigurationError, match=words):
        check(engine)


def _started(folder: Path, url: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", _PROGRAM, str(folder), url])


def _is_under_way(engine: Engine, statement: str) -> bool:
    if engine.dialect.name == "postgresql":
        with reading(engine) as tx:
            query = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE :query AND datname = current_database()"
            return bool(tx.execute(text(query), {"query": f"{statement[:16]}%"}).scalar())
    impatient = connect(f"{engine.url}?timeout=0.1")
    try:
        with writing(impatient):
            return False
    except Unavailable:
        return True
    finally:
        impatient.dispose()


def _end(engine: Engine, statement: str) -> None:
    """End a statement of a killed process on its server, which goes on with it without looking for its client."""
    if engine.dialect.name == "postgresql":
        with reading(engine) as tx:
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE :query"
            tx.execute(text(query), {"query": f"{statement[:16]}%"})


def test_the_next_run_finishes_a_migration_that_was_killed(engine, empty_url, add, monkeypatch):
    _follow(engine, "before")
    ours, number, dialect = migrations.FOLDER, _next(), engine.dialect.name
    process = _started(add(number, {name: _COLUMN + sql for name, sql in _LONG.items()}), empty_url)
    eventually(lambda: _is_under_way(engine, _LONG[dialect]))
    process.send_signal(signal.SIGKILL)
    process.wait()
    _end(engine, _LONG[dialect])
    assert "note" not in _columns(engine)
    assert _numbers(engine)[-1] == number - 1
    monkeypatch.setattr(migrations, "FOLDER", ours)
    add(number, _COLUMN)
    migrate(engine)
    assert "note" in _columns(engine)
    assert _numbers(engine)[-1] == number


def test_the_next_run_makes_an_index_that_was_left_unfinished(engine, empty_url, add):
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite makes an index in one transaction")
    folder = add(_next(), _INDEX)
    invalid = text("SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('followers_seen') AND NOT indisvalid")
    other = connect(empty_url)
    with writing(other) as tx:  # an index waits for the transactions that write to its table
        tx.execute(text("LOCK TABLE followers IN ROW EXCLUSIVE MODE"))
        process = _started(folder, empty_url)
        eventually(lambda: _is_under_way(engine, _INDEX["postgresql"]))
        with reading(engine) as looking:
            eventually(lambda: looking.execute(invalid).scalar() == 1)
            process.send_signal(signal.SIGKILL)
            process.wait()
            _end(engine, _INDEX["postgresql"])
    with reading(engine) as looking:
        assert looking.execute(invalid).scalar() == 1
    migrate(engine)
    with reading(engine) as looking:
        assert looking.execute(invalid).scalar() == 0
    assert "followers_seen" in _indexes(engine)
    other.dispose()


def test_two_processes_at_once_run_each_migration_once(engine, empty_url, add):
    add(_next(), _COLUMN)
    add(_next(), _INDEX)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: migrate(connect(empty_url)), range(2)))
    assert _numbers(engine) == list(range(1, _next()))
    assert "followers_seen" in _indexes(engine)


def test_a_table_in_use_is_not_waited_for_without_end(engine, empty_url, add, monkeypatch):
    """All others that use the table would wait behind the change."""
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has readers beside its writer")
    monkeypatch.setattr(migrations, "_LOCK_TRIES", 2)
    monkeypatch.setattr(migrations, "_LOCK_PAUSE", 0)
    add(_next(), _COLUMN)
    backup = connect(empty_url)
    with backup.begin() as tx:
        tx.execute(text("LOCK TABLE followers IN ACCESS SHARE MODE"))
        with pytest.raises(Unavailable, match=r"in use by another transaction, such as a backup.*headrace init"):
            migrate(engine)
    migrate(engine)
    assert "note" in _columns(engine)
    backup.dispose()
