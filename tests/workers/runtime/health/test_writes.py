import itertools
import sqlite3
from contextlib import closing, contextmanager
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url, select
from tests.services.eventually import eventually
from tests.services.proxy import proxied
from tests.services.tables import postgres_tables, sqlite_tables

from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.accepted import Probe
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.progress import Progress
from headrace_workers.core.sql.database_errors import Unwritable
from headrace_workers.core.tables import PROBES
from headrace_workers.runtime.health.writes import Writes

_names = itertools.count()


@contextmanager
def written(url):
    """What writes all the time to the ledger at this URL, and the loop of it."""
    ledger, loop = Ledger.at(url), Progress().loop("probe")
    writes = Writes(Probe(ledger.engine), loop)
    assert writes.trouble == "it has not been asked yet"
    writes.start()
    try:
        yield writes, loop
    finally:
        writes.stop()
        ledger.close()


def becomes(writes, loop, words):
    """Wait until it says so, and so does its loop: it waits for the ledger."""
    eventually(lambda: words in (writes.trouble or ""))
    eventually(lambda: loop.state().awaited is not None)
    assert loop.state().awaited.what == "the ledger"


def is_well(writes, loop):
    eventually(lambda: writes.trouble is None)
    eventually(lambda: loop.state().awaited is None)


@pytest.fixture
def database(postgres):
    return postgres_tables(postgres, f"writes_{next(_names)}_{uuid4().hex[:6]}")


def asked(url, *statements):
    """Run these on the server, beside any database of ours."""
    server = make_url(url).set(database="postgres", drivername="postgresql", query={})
    with psycopg.connect(server.render_as_string(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def backends(url):
    """The server's processes that answer connections to this database."""
    server = make_url(url).set(database="postgres", drivername="postgresql").render_as_string()
    with psycopg.connect(server) as connection:
        rows = connection.execute("SELECT pid FROM pg_stat_activity WHERE datname = %s", [make_url(url).database])
        return [pid for (pid,) in rows]


def test_a_process_writes_to_one_row_of_its_own(database):
    """However often it does, so that nothing grows; another process has another row."""
    with written(database) as (writes, loop), written(database) as (others, their_loop):
        is_well(writes, loop)
        is_well(others, their_loop)
        ledger = Ledger.at(database)
        before = {row.slot: row.at for row in ledger.read(select(PROBES))}
        assert len(before) == 2
        eventually(lambda: all(row.at > before[row.slot] for row in ledger.read(select(PROBES))))
        assert {row.slot for row in ledger.read(select(PROBES))} == before.keys()
        ledger.close()


def test_a_file_that_may_only_be_read_is_told_of(tmp_path):
    url = sqlite_tables(tmp_path / "ledger.db")
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as first:
        first.execute("PRAGMA journal_mode=WAL")
        first.execute("SELECT count(*) FROM probes").fetchone()
        with written(f"sqlite:///file:{make_url(url).database}?mode=ro&uri=true") as (writes, loop):
            becomes(writes, loop, "the ledger is read-only")


def test_a_file_that_another_process_writes_to_is_told_of(tmp_path):
    path = tmp_path / "ledger.db"
    with written(sqlite_tables(path)) as (writes, loop):
        is_well(writes, loop)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            becomes(writes, loop, "the ledger is locked by another process")
        is_well(writes, loop)


def test_a_database_that_may_only_be_read_is_told_of(database):
    name = make_url(database).database
    asked(database, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    with written(database) as (writes, loop):
        becomes(writes, loop, "the ledger is read-only")
        asked(database, f'ALTER DATABASE "{name}" SET default_transaction_read_only = off')
        is_well(writes, loop)


def test_a_server_that_is_silent_is_told_of_while_it_is_waited_for(database):
    url = make_url(database)
    with (
        proxied(url.port) as proxy,
        written(url.set(port=proxy.port).render_as_string(hide_password=False)) as (writes, loop),
    ):
        is_well(writes, loop)
        proxy.swallow()
        becomes(writes, loop, "answer")
        proxy.heal()
        is_well(writes, loop)


def test_a_probe_that_lost_its_connection_ends_idle_ones(database):
    """They may lead to the same server, which was replaced: the next who needs one would wait for its time limit."""
    ledger = Ledger.at(database)
    probe = Probe(ledger.engine)
    ledger.now()
    (idle,) = backends(database)
    probe.write()
    (mine,) = set(backends(database)) - {idle}
    asked(database, f"SELECT pg_terminate_backend({mine})")
    eventually(lambda: mine not in backends(database))
    with pytest.raises(Unavailable):
        probe.write()
    eventually(lambda: idle not in backends(database))
    probe.close()
    ledger.close()


def test_anothers_write_that_was_refused_counts_for_a_while(tmp_path):
    now = [100.0]
    ledger = Ledger.at(sqlite_tables(tmp_path / "ledger.db"))
    writes = Writes(Probe(ledger.engine), Progress().loop("probe"), lambda: now[0])
    writes._look()
    assert writes.trouble is None
    writes.refused(Unwritable("the ledger's disk is full", "could not extend file"))
    assert writes.trouble == "the ledger's disk is full"
    now[0] += 9.9
    assert writes.trouble == "the ledger's disk is full"
    now[0] += 0.2
    assert writes.trouble is None
    writes._probe.close()
    ledger.close()
