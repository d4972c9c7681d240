"""Statements that the driver runs itself: the same rows, the same errors, and a lost connection is given up."""

import pytest
from sqlalchemy import bindparam, event, func, literal, select, text

from headrace_schemas.errors import Unavailable
from headrace_workers.core.sql.database import writing
from headrace_workers.core.sql.database_errors import LedgerRefused
from headrace_workers.core.sql.statements import append, run
from headrace_workers.core.tables import OUTBOX

_NAMED = select(literal("said"), bindparam("name", type_=OUTBOX.c.key.type))


def test_who_listens_to_statements_sees_them(ledger):
    seen = []
    with writing(ledger.engine) as tx:
        alone = run(tx, _NAMED, {"name": "a"})
        event.listen(tx, "before_cursor_execute", lambda *given: seen.append(given[2]))
        assert (
            [tuple(row) for row in run(tx, _NAMED, {"name": "a"})] == [tuple(row) for row in alone] == [("said", "a")]
        )
    assert len(seen) == 1


def test_what_is_refused_is_told_without_the_row(ledger):
    row = {"topic": "outputs", "key": "k", "headers": "{}", "value": None}
    with pytest.raises(LedgerRefused) as refused, writing(ledger.engine) as tx:
        append(tx, OUTBOX, [row | {"headers": "secret"}])
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_rows_keep_their_order_however_many_there_are(ledger, count):
    rows = [
        {"topic": "outputs", "key": f"k{n}" if n % 2 else None, "headers": "{}", "value": bytes([n])}
        for n in range(count)
    ]
    with writing(ledger.engine) as tx:
        append(tx, OUTBOX, rows)
    found = ledger.read(select(OUTBOX.c.key, OUTBOX.c.value).order_by(OUTBOX.c.id))
    assert [tuple(row) for row in found] == [(row["key"], row["value"]) for row in rows]


def test_a_server_that_only_reads_is_left_with_all_that_leads_to_it(ledger):
    row = {"topic": "outputs", "key": "k", "headers": "{}", "value": b""}

    def pid(tx):
        return run(tx, select(func.pg_backend_pid()), {})[0][0]

    if ledger.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no server")
    with writing(ledger.engine) as one, writing(ledger.engine) as another:
        pooled = {pid(one), pid(another)}

    def write():
        with writing(ledger.engine) as tx:
            tx.execute(text("SET TRANSACTION READ ONLY"))
            append(tx, OUTBOX, [row])

    with pytest.raises(Unavailable):
        write()
    with writing(ledger.engine) as tx:
        assert pid(tx) not in pooled
