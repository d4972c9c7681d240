import subprocess
import sys
from contextlib import closing

import pytest
from sqlalchemy import inspect, make_url, text
from sqlalchemy.exc import OperationalError
from tests.services.tables import sqlite_tables

from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.core.migrate import migrate, require_current
from headrace_workers.core.sql.database import connect, reading, writing

SETTINGS = ("enable_seqscan", "jit", "statement_timeout", "idle_in_transaction_session_timeout", "synchronous_commit")

ROW = "INSERT INTO turns (queue, lane, urgency, tenant, flow, turn) VALUES ('q', 1, 9, '{}', 0, 1)"


@pytest.fixture
def opened():
    engines = []

    def at(url, **options):
        engines.append(connect(url, **options))
        return engines[-1]

    yield at
    for engine in engines:
        engine.dispose()


def said(engine, names):
    with reading(engine) as tx:
        return [tx.execute(text(f"SHOW {name}")).scalar() for name in names]


def test_sessions_of_postgresql(postgres):
    url = postgres.create_database("sessions")
    engines = [connect(url), connect(f"{url}?timeout=2", durable=False)]
    assert said(engines[0], SETTINGS) == ["off", "off", "10s", "10s", "on"]
    assert said(engines[1], SETTINGS) == ["off", "off", "2s", "2s", "off"]
    (own,) = engines[2:] = [connect(f"{url}?options=-c%20statement_timeout%3D7s%20-c%20work_mem%3D8MB")]
    assert said(own, ["statement_timeout", "work_mem", "jit"]) == ["7s", "8MB", "off"]
    for engine in engines:
        engine.dispose()


def test_the_way_to_postgresql_is_bounded_unless_the_url_says_otherwise(postgres):
    url = postgres.create_database("bounded")
    names = ("connect_timeout", "tcp_user_timeout", "keepalives_idle", "keepalives_interval", "keepalives_count")
    for query, expected in (
        ("", ["5", "10000", "10", "3", "3"]),
        ("?connect_timeout=9", ["9", "10000", "10", "3", "3"]),
    ):
        engine = connect(url + query)
        with closing(engine.raw_connection()) as connection:
            driver = connection.driver_connection
            parameters = driver.info.get_parameters()
            assert [parameters[name] for name in names] == expected
            assert driver.patience == 12.0
        engine.dispose()


@pytest.mark.parametrize(("timeout", "patience"), [("0.5", 1.0), ("2", 4.0), ("60", 62.0)])
def test_we_wait_a_little_longer_than_the_server(postgres, timeout, patience):
    engine = connect(f"{postgres.create_database(f'patience_{int(float(timeout))}')}?timeout={timeout}")
    with closing(engine.raw_connection()) as connection:
        assert connection.driver_connection.patience == patience
    engine.dispose()


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg"])
def test_a_plain_url_of_postgresql_is_one_of_our_driver(scheme):
    engine = connect(f"{scheme}://nobody@localhost/x")
    assert (engine.dialect.name, engine.dialect.driver) == ("postgresql", "psycopg")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ledger.db", "HEADRACE_LEDGER is no database URL: use sqlite:///PATH or postgresql"),
        ("mysql://u@h/d", "names the database 'mysql'; use sqlite or postgresql"),
        ("postgresql+psycopg2://u@h/d", r"names the database 'postgresql\+psycopg2'"),
        ("sqlite:///x?timeout=86400", "timeout is '86400'; it must be seconds, above 0 and below a day"),
        ("sqlite:///x?timeout=1&timeout=2", "it must be seconds"),
    ],
)
def test_a_url_that_we_cannot_use_is_refused(url, words):
    with pytest.raises(ConfigurationError, match=words):
        connect(url)


def test_a_file_is_read_while_it_is_written(opened, tmp_path):
    """SQLite keeps a write-ahead log; a reader neither waits for a writer nor sees what is not committed."""
    url = f"{sqlite_tables(tmp_path / 'l.db')}?timeout=0.2"
    engine, other = opened(url), opened(url)
    with reading(other) as tx:
        assert tx.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    with writing(engine) as writer:
        writer.exec_driver_sql(ROW.format("a"))
        with reading(other) as reader:
            assert reader.exec_driver_sql("SELECT count(*) FROM turns").scalar() == 0
        with pytest.raises(Unavailable, match="the ledger is locked by another process"), writing(other):
            pass  # it takes the file when it begins, and not only when it writes
    with reading(other) as reader:
        assert reader.exec_driver_sql("SELECT count(*) FROM turns").scalar() == 1
        with writing(engine) as writer:  # nor does a writer wait for a reader
            writer.exec_driver_sql(ROW.format("b"))
        assert reader.exec_driver_sql("SELECT count(*) FROM turns").scalar() == 1


@pytest.mark.parametrize(("query", "ms"), [("", 10_000), ("?timeout=0.2", 200)])
def test_a_file_that_another_writes_is_waited_for(opened, tmp_path, query, ms):
    with reading(opened(f"sqlite:///{tmp_path / 'l.db'}{query}")) as tx:
        assert tx.exec_driver_sql("PRAGMA busy_timeout").scalar() == ms


def test_a_write_that_fails_changes_nothing(opened, ledger_url):
    engine = opened(ledger_url)

    def fail():
        with writing(engine) as tx:
            tx.execute(text(ROW.format("a")))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with reading(engine) as tx:
        assert tx.execute(text("SELECT count(*) FROM turns")).scalar() == 0


def test_readers_of_postgresql_open_no_transaction(postgres):
    engine = connect(postgres.create_database("readers"))
    with reading(engine) as tx:
        first, second = (tx.execute(text("SELECT transaction_timestamp()")).scalar() for _ in range(2))
        assert first != second
    engine.dispose()


@pytest.mark.parametrize(("words", "told"), [("one\ntwo", "one"), ("x" * 400, "x" * 300), ("", "OperationalError")])
def test_an_error_is_told_in_one_line(opened, tmp_path, words, told):
    with pytest.raises(Unavailable) as caught, writing(opened(f"sqlite:///{tmp_path / 'l.db'}")):
        raise OperationalError("SELECT 1", {}, Exception(words))
    assert str(caught.value) == f"the ledger did not answer: {told}"


def test_migrating_again_changes_nothing(opened, ledger_url):
    engine = opened(ledger_url)
    before = set(inspect(engine).get_table_names())
    migrate(engine)
    assert set(inspect(engine).get_table_names()) == before
    assert {"jobs", "steps", "claims", "outbox", "dead_letters"} <= before


@pytest.fixture(scope="module")
def guarded(postgres):
    """A database, and a way to it by TCP on which the server wants the password `right` of the user `guest`."""
    url = postgres.create_database("guarded")
    rules = postgres.folder / "data" / "pg_hba.conf"
    before = rules.read_text()
    with closing(connect(url).raw_connection()) as connection:
        connection.driver_connection.autocommit = True
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'right'")
        connection.execute("CREATE ROLE nobody NOLOGIN")
        rules.write_text(f"host all guest all scram-sha-256\nhost all outcast all reject\n{before}")
        connection.execute("SELECT pg_reload_conf()")
        yield url
        rules.write_text(before)
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("DROP OWNED BY guest CASCADE")
        connection.execute("DROP ROLE guest, nobody")


@pytest.mark.parametrize(
    ("user", "database", "words"),
    [
        ("guest:wrong", "", 'password authentication failed for user "guest"'),
        ("guest", "", "no password supplied"),
        ("stranger", "", 'role "stranger" does not exist'),
        ("nobody", "", 'role "nobody" is not permitted to log in'),
        ("outcast", "", "pg_hba.conf rejects connection"),
        ("postgres", "nowhere", 'database "nowhere" does not exist'),
    ],
)
def test_a_server_that_does_not_let_us_in(opened, guarded, user, database, words):
    """At the start of a process that is for people to mend; to one that runs it is "not now", with the same words."""
    url = make_url(guarded)
    user, _, password = user.partition(":")
    url = url.set(username=user, password=password or None, database=database or url.database)
    engine = opened(url.render_as_string(hide_password=False))
    for begin in (require_current, migrate):
        with pytest.raises(ConfigurationError, match="does not let us in: ") as told:
            begin(engine)
        assert words in str(told.value)
        assert "in HEADRACE_LEDGER" in str(told.value)
    with pytest.raises(Unavailable, match="does not let us in"), reading(engine):
        pass


def test_who_has_the_password_is_let_in(opened, guarded):
    url = make_url(guarded).set(username="guest", password="right")
    with reading(opened(url.render_as_string(hide_password=False))) as tx:
        assert tx.execute(text("SELECT current_user")).scalar() == "guest"


def test_a_server_that_is_away_is_not_now_at_the_start_too(opened):
    with pytest.raises(Unavailable, match="did not answer"):
        require_current(opened("postgresql://nobody@127.0.0.1:9/x"))


def test_a_new_connection_leaves_the_locks_of_the_others(tmp_path):
    """To open and close the file beside SQLite would release them. Another process that ends would then take itself for
    the last, and remove the log from under the others, which meet disk I/O errors from then on.
    """
    url = f"sqlite:///{tmp_path}/ledger.db"
    engine = connect(url)
    writes = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit(); c.close()"
    command = [sys.executable, "-c", writes, f"{tmp_path}/ledger.db"]
    with writing(engine) as tx:
        tx.execute(text("CREATE TABLE rows (number INTEGER)"))
    with engine.connect() as held:
        assert held.execute(text("SELECT count(*) FROM rows")).scalar_one() == 0
        held.rollback()
        with connect(url).connect():
            subprocess.run([*command, "INSERT INTO rows VALUES (1)"], check=True)
        assert (tmp_path / "ledger.db-wal").exists()
        assert held.execute(text("SELECT count(*) FROM rows")).scalar_one() == 1
