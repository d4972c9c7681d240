"""Statements that the driver runs itself: the same rows, the same errors, and a lost connection is given up."""

import pytest
from sqlalchemy import bindparam, event, func, literal, select, text

from headrace_schemas.errors import Unavailable
from headrace_workers.ledger.append import append
from headrace_workers.ledger.database import LedgerRefused, locks_rows, writing
from headrace_workers.ledger.direct import run
from headrace_workers.ledger.tables import OUTBOX

_NAMED = select(literal("said"), bindparam("name", type_=OUTBOX.c.key.type))


def test_who_listens_to_statements_sees_them(ledger):
    """And the rows are those that come without."""
    seen = []
    with writing(ledger.engine) as tx:
        alone = run(tx, _NAMED, {"name": "a"})
        event.listen(tx, "before_cursor_execute", lambda *given: seen.append(given[2]))
        assert (
            [tuple(row) for row in run(tx, _NAMED, {"name": "a"})] == [tuple(row) for row in alone] == [("said", "a")]
        )
    assert len(seen) == 1


def test_what_is_refused_is_told_without_the_row(ledger):
    """A row holds users' texts."""
    row = {"topic": "outputs", "key": "k", "headers": "{}", "value": None}
    with pytest.raises(LedgerRefused) as refused, writing(ledger.engine) as tx:
        append(tx, OUTBOX, [row | {"headers": "secret"}])
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_rows_keep_their_order_however_many_there_are(ledger, count):
    """By INSERT and by COPY; one that has nothing in a column beside one that has."""
    rows = [
        {"topic": "outputs", "key": f"k{n}" if n % 2 else None, "headers": "{}", "value": bytes([n])}
        for n in range(count)
    ]
    with writing(ledger.engine) as tx:
        append(tx, OUTBOX, rows)
    found = ledger.read(select(OUTBOX.c.key, OUTBOX.c.value).order_by(OUTBOX.c.id))
    assert [tuple(row) for row in found] == [(row["key"], row["value"]) for row in rows]


def test_a_connection_that_the_server_ended_is_given_up_and_what_is_pooled_beside_it(ledger):
    """The others lead to the same server, which is about to go."""

    def pid(tx):
        return run(tx, select(func.pg_backend_pid()), {})[0][0]

    def lose():
        with writing(ledger.engine) as tx:
            with writing(ledger._volatile) as other:
                other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid(tx)})
            run(tx, _NAMED, {"name": "a"})

    with writing(ledger.engine) as one, writing(ledger.engine) as another:
        if not locks_rows(one):
            pytest.skip("SQLite has no connection that could be lost")
        pooled = {pid(one), pid(another)}
    with pytest.raises(Unavailable):
        lose()
    with writing(ledger.engine) as tx:
        assert pid(tx) not in pooled
