"""How many statements the hot path takes for a group: a feature that has nothing to do with its jobs adds none."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event
from tests.workers.core.ledger.test_complete import dies, ends, record
from tests.workers.group_costs import FILE

from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Held


@contextmanager
def counted(ledger: Ledger) -> Iterator[list[str]]:
    seen: list[str] = []

    def collect(_connection, _cursor, statement, *_) -> None:
        seen.append(statement)

    engines = {ledger._engine, ledger._volatile}
    for engine in engines:
        event.listen(engine, "before_cursor_execute", collect)
    yield seen
    for engine in engines:
        event.remove(engine, "before_cursor_execute", collect)


@pytest.fixture
def begun(ledger, job, claim):
    def begin(jobs: int):
        ledger.ingest([job() for _ in range(jobs)])
        return ledger.start(claim(limit=jobs).id, worker="w", lease_ms=60_000)

    return begin


# By database: statements that SQLAlchemy runs, whatever the size of the group. The driver itself copies rows.
STATEMENTS = json.loads(FILE.read_text(encoding="utf-8"))["statements of a transaction"]
OUTCOMES = {
    "ends": ends,
    "dies": dies,
    "is held": lambda job_id: StepResult(job_id, Held("a person must see it"), (record(job_id),)),
    "waits for a service": lambda job_id: StepResult(job_id, Held("down", needs_person=False), (record(job_id),)),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("jobs", [2, 9])
def test_completion_takes_as_many_statements_however_many_features_there_are(ledger, begun, outcome, jobs):
    claimed = begun(jobs)
    settled = [OUTCOMES[outcome](row.job_id) for row in claimed.steps]
    with counted(ledger) as seen:
        assert ledger.complete(claimed.claim_id, settled, ran_ms=10, quantum_ms=5_000)
    assert len(seen) == STATEMENTS[ledger.engine.dialect.name][outcome], seen


@pytest.mark.parametrize("jobs", [2, 9])
def test_ingest_takes_as_many_statements_however_many_features_there_are(ledger, job, jobs):
    with counted(ledger) as seen:
        assert ledger.ingest([job() for _ in range(jobs)]).new == jobs
    assert len(seen) == STATEMENTS[ledger.engine.dialect.name]["comes"], seen
