"""What the page *Now* reads: on both databases, by indexes, and never more than its bounds."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import event, insert, update
from tests.workers.ledger_in_short import ledger_url
from tests.workers.ledger_jobs import claim_one, take_in
from tests.workers.runtime.bridge.records import evaluation, generation

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS, STEPS
from headrace_workers.features.console import situation
from headrace_workers.features.console.situation import HOUR_MS, Situations

__all__ = ["ledger_url"]


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    made = Ledger.at(ledger_url)
    yield made
    made.close()


def ended(ledger: Ledger, count: int, ago: int = 1_000, state: str = "done", **fields: Any) -> list[str]:
    """So many jobs that ended `ago` ms before now."""
    now = ledger.now()
    rows = [
        {"id": job_id, "tenant": "default", "kind": "generation", "state": state, "payload": b"{}",
         "accepted_at": now - ago - 50, "ended_at": now - ago, "terminal": json.dumps({"job_id": job_id}).encode(),
         **fields}
        for job_id in (f"{state}-{ago}-{n}" for n in range(count))
    ]  # fmt: skip
    with writing(ledger.engine) as tx:
        tx.execute(insert(JOBS), rows)
    return [row["id"] for row in rows]


def test_a_long_queue_hides_no_other_and_counts_are_bounded(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(situation, "MOST", 3)
    take_in(ledger, [generation(prompt=f"{n}", lane="batch") for n in range(6)])
    take_in(ledger, [evaluation(input="x")])
    found = ledger.of(Situations).look()
    lines = {(line.stage, line.queue): (line.ready, line.lane) for line in found.lines}
    assert lines == {("generate", "model.echo"): (4, 1), ("judge", "judge"): (1, 0)}
    assert (found.active, found.oldest_ms >= 0) == (4, True)


def test_steps_in_hand_are_their_workers(ledger: Ledger):
    _, second = take_in(ledger, [generation(prompt="a"), generation(prompt="b")])
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.job_id == second).values(state="waiting", ready_at=2**50))
    claim = claim_one(ledger)
    assert claim is not None
    assert [(held.worker, held.steps) for held in ledger.of(Situations).look().holdings] == [(None, 1)]
    (line,) = ledger.of(Situations).look().lines
    assert (line.ready, line.later, line.begun) == (0, 1, 1)


def test_rates_are_of_the_last_minute_and_of_as_many_jobs_as_are_read(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    jobs = take_in(ledger, [generation(prompt=f"{n}") for n in range(4)])
    now = ledger.now()
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(state="done", ended_at=now - 1_000))
        tx.execute(update(JOBS).where(JOBS.c.id.in_(jobs)).values(state="done", ended_at=now - 1_000))
    ended(ledger, 1, ago=90_000)
    found = ledger.of(Situations).look()
    assert [(line.stage, line.rate) for line in found.lines] == [("generate", 4.0)]
    assert found.per_minute == 4.0
    monkeypatch.setattr(situation, "MOST_ENDS", 2)  # then in the time in which those ended
    found = ledger.of(Situations).look()
    assert found.per_minute == pytest.approx(2 * 60_000 / (found.now - now + 1_000))


def test_hours_are_counted_up_to_the_bound_and_without_units(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(situation, "MOST", 3)
    ended(ledger, 2, ago=HOUR_MS)
    ended(ledger, 1, ago=HOUR_MS, state="dead", subject="x")
    ended(ledger, 5, ago=3 * HOUR_MS)
    this = ledger.now() // HOUR_MS
    hours = ledger.of(Situations).look(range(this - 4, this + 1)).hours
    counted = {this - hour: (sum(ends.ended.values()), ends.more) for hour, ends in hours.items()}
    assert counted[1] == (2, False)
    assert counted[3] == (4, True)
    assert counted[0] == (0, False)


def test_no_statement_walks_all_jobs_or_steps(ledger: Ledger):
    if ledger.engine.dialect.name != "sqlite":
        pytest.skip("what PostgreSQL plans depends on its statistics")
    take_in(ledger, [generation(prompt=f"{n}") for n in range(3)])
    ended(ledger, 3)
    reads = statements_of(ledger, lambda: ledger.of(Situations).look([ledger.now() // HOUR_MS]))
    assert len(reads) > 10
    for statement, parameters in reads:
        plan = planned(ledger, statement, parameters)
        assert not [row for row in plan if row in ("SCAN jobs", "SCAN steps", "SCAN dead_letters")], statement


def statements_of(ledger: Ledger, read: Callable[[], object]) -> list[tuple[str, Any]]:
    statements: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH")):
            statements.append((statement, parameters))

    event.listen(ledger.engine, "before_cursor_execute", note)
    read()
    event.remove(ledger.engine, "before_cursor_execute", note)
    return statements


def planned(ledger: Ledger, statement: str, parameters: Any) -> list[str]:
    with ledger.engine.connect() as connection:
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
