"""Statements that stand alone have connections of their own, which are given up with the others."""

import os
from contextlib import ExitStack, closing
from itertools import count
from uuid import uuid4

import pytest
from sqlalchemy import bindparam, delete, func, literal, select, text
from tests.services.eventually import eventually
from tests.services.tables import give_back, postgres_tables

from headrace_schemas.errors import Unavailable
from headrace_workers.core.sql.database import connect, reading, writing
from headrace_workers.core.sql.database_errors import LedgerRefused
from headrace_workers.core.sql.statements import SingleStatements, append, rows_of
from headrace_workers.core.tables import OUTBOX

_NAMED = select(OUTBOX.c.topic).where(OUTBOX.c.key == bindparam("name", type_=OUTBOX.c.key.type))
_REMOVED = delete(OUTBOX).where(OUTBOX.c.key == bindparam("name", type_=OUTBOX.c.key.type))
_FAILS = select(literal(1) / bindparam("by", type_=OUTBOX.c.id.type))
_BACKEND = select(func.pg_backend_pid())
_ROW = {"topic": "outputs", "key": "k", "headers": "{}", "value": b""}
_OTHERS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_databases = count()


@pytest.fixture
def engine(ledger_url):
    engine = connect(ledger_url)
    yield engine
    engine.dispose()


@pytest.fixture
def single(engine):
    with closing(SingleStatements(engine)) as single:
        yield single


@pytest.fixture
def server(postgres):
    """An engine of a database on PostgreSQL, and single statements on it."""
    name = f"reads_{next(_databases)}_{os.getpid()}_{uuid4().hex[:6]}"
    engine = connect(postgres_tables(postgres, name))
    with closing(SingleStatements(engine)) as single:
        yield engine, single
    engine.dispose()
    give_back(postgres, name)


def backend(single):
    ((pid,),) = single.rows(_BACKEND, {})
    return pid


def test_alone_it_sees_what_is_committed_and_within_a_transaction_what_that_wrote(engine, single):
    with writing(engine) as tx:
        append(tx, OUTBOX, [_ROW])
        assert [tuple(row) for row in rows_of(tx, _NAMED, {"name": "k"})] == [("outputs",)]
        assert list(rows_of(single, _NAMED, {"name": "k"})) == []
    assert [tuple(row) for row in rows_of(single, _NAMED, {"name": "k"})] == [("outputs",)]


def test_a_write_that_stands_alone_is_committed_at_once(engine, single):
    """It needs no transaction on PostgreSQL, and gets one on SQLite."""
    with writing(engine) as tx:
        append(tx, OUTBOX, [_ROW, _ROW | {"key": "other"}])
    with single.writing() as where:
        assert list(rows_of(where, _REMOVED, {"name": "k"})) == []
    with reading(engine) as tx:
        assert tx.execute(select(OUTBOX.c.key)).scalars().all() == ["other"]


def test_it_opens_no_transaction_and_uses_its_connection_again(server):
    _, single = server
    times = select(func.transaction_timestamp(), func.pg_backend_pid())
    (first,), (second,) = single.rows(times, {}), single.rows(times, {})
    assert (first[0] != second[0], first[1] == second[1]) == (True, True)


def test_what_is_refused_is_told_and_the_connection_stays(server):
    _, single = server
    before = backend(single)
    with pytest.raises(LedgerRefused, match="division by zero"):
        single.rows(_FAILS, {"by": 0})
    assert backend(single) == before


def test_a_connection_that_was_lost_is_not_now_and_the_next_is_another(server):
    engine, single = server
    drivers = [single._opened(), single._opened()]
    for driver in drivers:
        single._keep(driver, single._kept)
    before = {driver.info.backend_pid for driver in drivers}
    with writing(engine) as tx:
        tx.execute(_OTHERS)

    def lost():
        try:
            backend(single)
        except Unavailable:
            return True
        return False

    eventually(lost)
    assert all(driver.closed for driver in drivers)
    assert backend(single) not in before


@pytest.mark.parametrize("how", ["lost", "left"])
def test_what_the_engine_loses_or_leaves_is_left_here_too(server, how):
    engine, single = server
    before = backend(single)
    if how == "left":
        engine.dispose()
    else:
        with pytest.raises(Unavailable), reading(engine) as tx:
            tx.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert backend(single) != before


def test_a_statement_that_was_broken_off_leaves_nothing_behind(server):
    """As by Ctrl-C: the answer that is still to come must not be the next one's."""
    _, single = server
    driver = single._opened()
    single._keep(driver, single._kept)
    driver.pgconn.send_query(b"SELECT 'late'")
    assert driver.info.transaction_status.name == "ACTIVE"
    single._kept.clear()
    single._keep(driver, single._kept)
    assert (driver.closed, single._kept) == (True, [])


def test_a_server_that_is_not_there_is_unavailable():
    engine = connect("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    with closing(SingleStatements(engine)) as single, pytest.raises(Unavailable):
        single.rows(_BACKEND, {})
    engine.dispose()


def test_reads_at_once_are_bounded(server, monkeypatch):
    """A read that finds twelve others at the ledger waits for one of them to end, and not for ever."""
    _, single = server
    monkeypatch.setattr("headrace_workers.core.sql.statements.STATEMENT_SECONDS", 0.01)
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(single._room)
        with pytest.raises(Unavailable, match="12 statements"):
            single.rows(_BACKEND, {})
    assert backend(single)
