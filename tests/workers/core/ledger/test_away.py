"""What "not now" looks like on each database: always `Unavailable`, within a bound, and then it goes on."""

import itertools
import os
import signal
import sqlite3
import traceback
from contextlib import closing, contextmanager, suppress
from uuid import uuid4

import psutil
import pytest
from sqlalchemy import make_url, text
from tests.services.eventually import eventually
from tests.services.proxy import proxied
from tests.services.tables import postgres_tables, sqlite_tables

from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import connect, writing
from headrace_workers.core.sql.database_errors import LedgerRefused
from headrace_workers.features.cache.store.answers import Answers

NOT_NOW = ["25006", "25P04", "40001", "40P01", "53100", "53200", "53300", "55P03", "57014", "57P01", "58030"]
_names = itertools.count()


@pytest.fixture
def database(postgres):
    return postgres_tables(postgres, f"away_{next(_names)}_{uuid4().hex[:6]}")


@pytest.fixture
def hurried(database):
    return f"{database}?timeout=0.5&connect_timeout=2"


@pytest.fixture
def at():
    opened = []

    def open_at(url):
        opened.append(Ledger.at(url))
        return opened[-1]

    yield open_at
    for ledger in opened:
        ledger.close()


def nothing_answers(ledger, job):
    """A connection from before does not hang, and neither does a new one, whatever it is for."""
    for call in (ledger.now, lambda: ledger.ingest([job()])):
        with pytest.raises(Unavailable):
            call()


def in_time(call):
    """What comes of it. On a busy machine the first half second may pass before there is an answer: then once more."""

    def tried():
        with suppress(Unavailable):
            return call()

    return eventually(tried)


def goes_on(ledger, job):
    assert in_time(lambda: ledger.ingest([job()]).new == 1)


@contextmanager
def frozen(server):
    """The whole server stopped, as by a hypervisor: the kernel still acknowledges what comes."""
    main = psutil.Process(server.pid)
    stopped = [main, *main.children(recursive=True)]
    for process in stopped:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in stopped:
            os.kill(process.pid, signal.SIGCONT)


def test_a_frozen_database_is_away_and_then_goes_on(postgres, hurried, at, job):
    """Neither a connection that is open nor a new one waits for ever."""
    ledger = at(hurried)
    goes_on(ledger, job)
    with frozen(postgres):
        nothing_answers(ledger, job)
    goes_on(ledger, job)


def test_a_way_that_was_found_half_open_is_not_found_so_again(postgres, hurried, at):
    backend = text("SELECT pg_backend_pid()")
    with proxied(postgres.port) as proxy:
        ledger = at(make_url(hurried).set(port=proxy.port).render_as_string())
        before = in_time(lambda: ledger.hold("relay", "a", 60_000) and ledger.read(backend))
        proxy.swallow("down")
        with pytest.raises(Unavailable):
            ledger.hold("relay", "a", 60_000)
        proxy.heal()
        assert in_time(lambda: ledger.read(backend)) != before


@pytest.mark.parametrize("direction", ["both", "down"])
def test_a_half_open_way_to_the_database_is_away_and_then_goes_on(postgres, hurried, at, job, caplog, direction):
    with proxied(postgres.port) as proxy:
        ledger = at(make_url(hurried).set(port=proxy.port).render_as_string())
        goes_on(ledger, job)
        proxy.swallow(direction)
        nothing_answers(ledger, job)
        proxy.heal()
        goes_on(ledger, job)
    assert caplog.records == []


@pytest.mark.parametrize("direction", ["both", "down"])
def test_a_look_up_of_an_answer_is_bounded_as_all_else(postgres, hurried, at, direction):
    with proxied(postgres.port) as proxy:
        ledger = at(make_url(hurried).set(port=proxy.port).render_as_string())
        assert in_time(lambda: [ledger.of(Answers).exact({"k"})]) == [{}]
        proxy.swallow(direction)
        for _ in range(2):  # on the connection that was open, and on a new one
            with pytest.raises(Unavailable):
                ledger.of(Answers).exact({"k"})
        proxy.heal()
        assert in_time(lambda: [ledger.of(Answers).exact({"k"})]) == [{}]


def test_a_statement_that_takes_too_long_is_not_now(database, at):
    """The server ends it by itself, long before we would, and the connection stays."""
    ledger = at(f"{database}?options=-c%20statement_timeout%3D1000")
    with pytest.raises(Unavailable, match="statement timeout"):
        ledger.read(text("SELECT pg_sleep(30)"))
    with writing(ledger.engine) as tx:
        before = tx.execute(text("SELECT pg_backend_pid()")).scalar()
    with writing(ledger.engine) as tx:
        assert tx.execute(text("SELECT pg_backend_pid()")).scalar() == before


def test_a_pool_that_is_used_up_is_not_now(database, at):
    """A thread does not wait for a connection for ever."""
    ledger = at(database)
    ledger.engine.pool._timeout = 0.1  # nobody gives one back, however long it is waited for
    taken = [ledger.engine.connect() for _ in range(12)]
    with pytest.raises(Unavailable, match="in use"):
        ledger.now()
    for connection in taken:
        connection.close()
    assert ledger.now()


@pytest.mark.parametrize("code", NOT_NOW)
def test_what_may_pass_is_not_now(database, at, job, code):
    """Read-only, deadlock, serialization, full disk, memory, connections, locks, cancelled, shut down, input/output."""
    ledger = at(database)
    with writing(ledger.engine) as tx:
        tx.execute(text(
            f"CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END $$"
        ))  # fmt: skip
        tx.execute(text("CREATE TRIGGER fail BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION fail()"))
    with pytest.raises(Unavailable, match="not now"):
        ledger.ingest([job()])
    with writing(ledger.engine) as tx:
        tx.execute(text("DROP TRIGGER fail ON jobs"))
    assert ledger.ingest([job()]).new == 1


def test_a_failover_is_waited_for(database, at, job):
    """The server that we knew has become read-only: its connections are left, so that the next finds the new one."""
    ledger, name = at(database), make_url(database).database
    with writing(ledger.engine) as tx:
        tx.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    ledger.close()  # the next connections are of a standby
    for _ in range(2):
        with pytest.raises(Unavailable, match="read-only"):
            ledger.ingest([job()])
    with at(make_url(database).set(database="postgres").render_as_string()).engine.connect() as other:
        other.execution_options(isolation_level="AUTOCOMMIT")
        other.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = off'))
    assert ledger.ingest([job()]).new == 1


def test_an_admins_shutdown_costs_one_try(database, at, job):
    ledger = at(database)
    with pytest.raises(Unavailable, match="administrator"), writing(ledger.engine) as tx:
        tx.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"))
    assert ledger.ingest([job()]).new == 1


def test_a_role_that_may_have_no_more_connections_is_not_now(database, at):
    """Too many connections end by themselves."""
    url, role = make_url(database), f"few_{uuid4().hex[:8]}"
    with writing(at(database).engine) as tx:
        tx.execute(text(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0"))
    with pytest.raises(Unavailable, match="too many connections"):
        at(url.set(username=role).render_as_string()).now()


@pytest.fixture
def file(tmp_path):
    """A SQLite ledger's path, and a ledger there that waits a quarter of a second for others."""
    path = tmp_path / "ledger.db"
    ledger = Ledger.at(f"{sqlite_tables(path)}?timeout=0.25")
    yield path, ledger
    ledger.close()


def test_a_file_that_another_process_writes_is_not_now(file, job):
    path, ledger = file
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            ledger.ingest([job()])
    assert ledger.ingest([job()]).new == 1


@pytest.mark.parametrize(
    ("trouble", "end", "words"),
    [
        ("PRAGMA query_only = 1", "PRAGMA query_only = 0", "readonly"),
        ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000", "full"),
    ],
)
def test_a_file_that_is_read_only_or_full_is_not_now(file, job, trouble, end, words):
    _, ledger = file
    many = [job(job_id=f"{n:036}") for n in range(500)]
    with closing(ledger.engine.raw_connection()) as connection:
        connection.driver_connection.execute(trouble)
    with pytest.raises(Unavailable, match=words):
        ledger.ingest(many)
    with closing(ledger.engine.raw_connection()) as connection:
        connection.driver_connection.execute(end)
    assert ledger.ingest(many).new == 500


def test_an_id_that_was_printed_survives_a_power_cut(file):
    path, _ = file
    ledger, volatile = Ledger.at(f"sqlite:///{path}"), connect(f"sqlite:///{path}", durable=False)
    found = []
    for engine in (ledger.engine, volatile):
        with closing(engine.raw_connection()) as connection:  # tests' own transactions wait for no disk
            found += connection.driver_connection.execute("PRAGMA synchronous").fetchone()
    assert found == [2, 1]  # FULL, NORMAL
    ledger.close()
    volatile.dispose()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_users_texts_are_in_no_error(request, tmp_path, at, caplog, kind):
    ledger = at(sqlite_tables(tmp_path / "l.db") if kind == "sqlite" else request.getfixturevalue("database"))
    caplog.set_level("DEBUG")
    diary = "".join(("sec", "ret"))  # so that this line, which the trace quotes, does not hold it
    statement = text("INSERT INTO steps (job_id, stage, reason) VALUES (:job, 'generate', :words)")
    with pytest.raises(LedgerRefused) as caught, writing(ledger.engine) as tx:
        tx.execute(statement, {"job": "1", "words": diary})
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "secret" not in told
    assert "test_away" in told  # where it happened is told


def test_a_time_limit_that_is_none_is_refused(tmp_path):
    for wrong in ("0", "-1", "soon", "nan", "inf"):
        with pytest.raises(ConfigurationError, match="HEADRACE_LEDGER: timeout"):
            connect(f"sqlite:///{tmp_path / 'l.db'}?timeout={wrong}")
        with pytest.raises(ConfigurationError, match="HEADRACE_LEDGER: timeout"):
            connect(f"postgresql://nobody@localhost/x?timeout={wrong}")


def test_a_migration_may_take_longer(hurried):
    from headrace_workers.core.sql.database import unhurried

    engine, long = connect(hurried), text("SELECT pg_sleep(1.5)")  # than the server's limit, and than our own

    def slept():
        with writing(engine) as tx, unhurried(tx):
            return tx.execute(long).rowcount == 1

    assert in_time(slept)
    with pytest.raises(Unavailable), writing(engine) as tx:
        tx.execute(long)
    engine.dispose()
