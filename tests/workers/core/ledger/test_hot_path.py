"""Every query of the hot path uses an index, whatever lies in the tables."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import event, text, update
from tests.workers.core.ledger.test_complete import goes_on, retries

from headrace_workers.core.ledger.cancellation import Cancellation, cancel
from headrace_workers.core.ledger.claims import Wanted, heads
from headrace_workers.core.ledger.claims import claim as claim_in
from headrace_workers.core.ledger.completion import RunOver, complete, complete_together
from headrace_workers.core.ledger.ingest import conflicts
from headrace_workers.core.ledger.job_status import job as job_view
from headrace_workers.core.ledger.job_status import named, terminals, units_of
from headrace_workers.core.ledger.leases import acquit, release, start
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import peek
from headrace_workers.core.ledger.recovery import due, expire, promote, reap
from headrace_workers.core.sql.database import locks_rows, writing
from headrace_workers.core.tables import CLAIMS

SCANS = ("Seq Scan", "SCAN ")
# One row a group or a tenant or a bridge: a scan of these is a page.
SMALL = ("claims", "budgets", "turns", "duties", "CONSTANT ROW", "anon_", "(subquery")


@contextmanager
def statements(connection):
    seen = []

    def collect(_conn, _cursor, statement, parameters, _context, many):
        if not many and statement.lstrip()[:6].upper() in ("SELECT", "UPDATE", "DELETE"):
            seen.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", collect)
    yield seen
    event.remove(connection, "before_cursor_execute", collect)


def plan_of(connection, statement, parameters):
    explain = "EXPLAIN " if locks_rows(connection) else "EXPLAIN QUERY PLAN "
    return "\n".join(" ".join(map(str, row)) for row in connection.exec_driver_sql(explain + statement, parameters))


def scans(plan):
    return [
        line
        for line in plan.splitlines()
        if any(word in line for word in SCANS) and "USING" not in line and not any(name in line for name in SMALL)
    ]


@pytest.fixture
def grown(ledger: Ledger, job):
    """A ledger with enough in it that a scan would cost."""
    for _ in range(4):
        ledger.ingest([job(tenant=f"t{n % 7}", group=f"g{n % 3}") for n in range(1_000)])
    with writing(ledger.engine) as tx:
        tx.execute(text("UPDATE steps SET state = 'done' WHERE turn % 10 <> 0 OR job_id < '8'"))
        tx.execute(text("UPDATE jobs SET state = 'done', ended_at = 1 WHERE id < '8'"))
    with ledger.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
        connection.commit()
    return ledger


def test_hot_path_uses_indexes(grown):
    with writing(grown.engine) as tx:
        if locks_rows(tx):
            tx.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        with statements(tx) as seen:
            wanted = [Wanted("q", 1, 2, 32, 256), Wanted("q", 0, 1, 32), Wanted("q", 1, 2, 1)]
            (taken, *_, one, other) = claim_in(tx, wanted, heads(tx, wanted), lease_ms=60_000, sender="b").claims
            begun = start(tx, taken.id, worker="w", lease_ms=60_000)
            settled = [retries(row.job_id, 1) for row in begun.steps]
            singles = [start(tx, claim.id, worker="w", lease_ms=60_000) for claim in (one, other)]
            due(tx), promote(tx), expire(tx), reap(tx, 3), peek(tx, 500, 10**6)
            complete(tx, taken.id, settled, ran_ms=1, quantum_ms=1)
            runs = [RunOver(started.claim_id, [goes_on(started.steps[0].job_id)], 1, 1) for started in singles]
            assert len(complete_together(tx, runs).of) == 2
        assert len(seen) > 8
        for statement, parameters in seen:
            plan = plan_of(tx, statement, parameters)
            assert scans(plan) == [], f"{statement}\n{plan}"


def test_what_is_asked_of_single_jobs_uses_indexes(grown, job):
    """Repetitions, cancellations, a worker that comes back or dies, and people: none reads all jobs or steps."""
    wanted = [Wanted("q", 1, 2, 8)]
    with writing(grown.engine) as tx:
        if locks_rows(tx):
            tx.exec_driver_sql("SET LOCAL plan_cache_mode = force_generic_plan")
        taken, other = claim_in(tx, wanted, heads(tx, wanted), lease_ms=60_000, sender="b").claims
        begun = start(tx, taken.id, worker="w", lease_ms=60_000)
        start(tx, other.id, worker="v", lease_ms=60_000)
        known = [row.job_id for row in begun.steps]
        again = [replace(job(job_id=job_id), payload=b"{}") for job_id in known]
        with statements(tx) as seen:
            assert len(conflicts(tx, again)) == len(again)
            assert cancel(tx, [Cancellation(known[0], begun.steps[0].tenant, "")]) == ["cancelled"]
            acquit(tx, "generate", known)
            assert release(tx, [taken.id]) > 0
            tx.execute(update(CLAIMS).values(renewed_at=0, lease_until=1))
            assert reap(tx, 3).crashed > 0
            job_view(tx, known[0]), terminals(tx, known), named(tx, "order", None, 9), units_of(tx, known[0], 9)
        asked = [(statement, parameters) for statement, parameters in seen if "claims SET renewed_at" not in statement]
        assert len(asked) > 15
        for statement, parameters in asked:
            plan = plan_of(tx, statement, parameters)
            assert scans(plan) == [], f"{statement}\n{plan}"
