"""What batches add to the hot path uses indexes, and costs other jobs nothing."""

import pytest
from sqlalchemy import event, text
from tests.workers.core.ledger.test_hot_path import grown, plan_of, scans, statements  # noqa: F401

from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.outcome import Done
from headrace_workers.core.sql.database import locks_rows, writing
from headrace_workers.features.batches.store import batches, feeding, outputs
from headrace_workers.features.batches.store.batches import NewBatch
from headrace_workers.features.batches.store.feeding import Chunk, NewLine
from headrace_workers.features.batches.store.transactions import Batches

SMALL = ("batches", "files", "pieces")


@pytest.fixture
def fed(grown, job):  # noqa: F811
    """A batch beside many other jobs, with lines under way and lines that have ended."""
    row, _ = grown.of(Batches).create(
        NewBatch(id="batch_1", tenant="a", input_file="f", total=3_000, window="24h", window_ms=10**9)
    )

    def line(number):
        made = job(queue="batch")
        return NewLine(number, number * 10, f"k{number}", (made.__class__(**{**fields(made), "line": number}),), 10)

    def fields(made):
        known = {name: getattr(made, name) for name in made.__slots__}
        return known | {"batch": row.number}

    for start in (1, 1_501):
        at = grown.of(Batches).batch("batch_1").position
        lines = [line(number) for number in range(start, start + 1_500)]
        assert (
            grown.of(Batches).feed(row.number, at, Chunk(lines, lines[-1].end, lines[-1].number, False)).lines == 1_500
        )
    with writing(grown.engine) as tx:
        tx.execute(text("UPDATE jobs SET state = 'done', ended_at = 1, terminal = '{}' WHERE batch = 1 AND line < 900"))
    with grown.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
        connection.commit()
    return grown, row.number


def test_batches_use_indexes(fed):
    ledger, number = fed
    with writing(ledger.engine) as tx:
        if locks_rows(tx):
            tx.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        with statements(tx) as seen:
            batches.unfinished(tx)
            assert len(outputs.ended(tx, number, 100, 10**6)) == 100
            outputs.ended_together(tx, number, 100), outputs.refused(tx, number, 100)
            batches.is_all_ended(tx, number)
            assert batches.cancel_open_jobs(tx, number, "a", "no", 50) == 50
            again = NewLine(3_001, 30_010, "k7", code="invalid", reason="x")
            at = batches.batch(tx, "batch_1").position
            feeding.feed(tx, number, at, Chunk([again], 30_010, 3_001, True))
            batches.lines(tx, number, after=10, limit=10, state="failed")
        assert len(seen) > 12
        for statement, parameters in seen:
            lines = [line for line in scans(plan_of(tx, statement, parameters)) if not any(n in line for n in SMALL)]
            assert lines == [], f"{statement}\n{lines}"


def test_the_end_of_another_job_asks_nothing_of_batches(ledger, job):
    new = job()
    ledger.ingest([new])
    (claim,) = ledger.claim([Wanted("q", 1, 1, 1)], lease_ms=60_000, sender="b").claims
    ledger.start(claim.id, worker="w", lease_ms=60_000)
    seen = []

    def collect(_conn, _cursor, statement, _parameters, _context, _many):
        seen.append(statement)

    event.listen(ledger.engine, "before_cursor_execute", collect)
    ledger.complete(claim.id, [StepResult(new.id, Done())], ran_ms=1, quantum_ms=1_000)
    assert seen
    assert not any("lines" in statement or "batch" in statement for statement in seen)
