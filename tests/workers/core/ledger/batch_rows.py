"""Batches and their lines in the ledger, as tests of them write and read them."""

from sqlalchemy import insert, select, update
from tests.workers.core.ledger.rows import job, write

from headrace_workers.features.batches.store.batches import NewBatch
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.batches.tables import BATCHES, LINES


def create(ledger, name, tenant="a", **fields):
    known = {"input_file": f"file of {name}", "total": 3, "window": "24h", "window_ms": 86_400_000}
    return ledger.of(Batches).create(NewBatch(id=name, tenant=tenant, **known | fields))


def line(ledger, batch, number, state="open", **fields):
    known = {"batch": batch, "number": number, "custom_id": f"c{number}", "state": state, "jobs": 1, "tokens": 10}
    write(ledger, insert(LINES).values(**known | fields))


def end(ledger, batch, number, name, state="done", **fields):
    known = {"terminal_type": "t", "terminal": b"12345", "ended_at": 1}
    job(ledger, name, state, batch=batch, line=number, **known | fields)


def rows(ledger):
    return {row.id: row._asdict() for row in ledger.read(select(BATCHES))}


def lines(ledger):
    found = ledger.read(select(LINES).order_by(LINES.c.batch, LINES.c.number))
    return {(row.batch, row.number): (row.state, row.code, row.text) for row in found}


def stand(ledger, **values):
    """How the first batch stands from now on."""
    write(ledger, update(BATCHES).where(BATCHES.c.id == "batch_1").values(**values))


def two_batches(ledger):
    """The ledger with the batches 1 and 2, of two tenants."""
    create(ledger, "batch_1")
    create(ledger, "batch_2", "b")
    return ledger
