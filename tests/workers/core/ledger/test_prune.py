import time

import pytest
from sqlalchemy import func, insert, select, update
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.ledger.fair_queueing import CLOCK
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import BUDGETS, DEAD_LETTERS, JOBS, STEPS, TURNS

AGE = 60_000


@pytest.fixture
def dead(ledger, job):
    """A job that expired, and one that did not."""
    late, other = job(deadline=ledger.now() + 1), job()
    ledger.ingest([late, other])
    time.sleep(0.02)
    ledger.reap(3)
    return late


def age(ledger, *columns):
    for column in columns:
        with writing(ledger.engine) as tx:
            tx.execute(update(column.table).values({column.name: column - 2 * AGE}))


def jobs(ledger):
    return sorted(ledger.read(select(JOBS.c.id))), sorted(ledger.read(select(STEPS.c.job_id)))


def test_only_what_ended_long_ago_is_forgotten(ledger, dead):
    ledger.prune(AGE)
    assert len(jobs(ledger)[0]) == 2
    age(ledger, JOBS.c.ended_at, JOBS.c.accepted_at, DEAD_LETTERS.c.died_at)
    assert ledger.prune(AGE) is False
    known, steps = jobs(ledger)
    assert known == steps
    assert [row.id for row in known] != [dead.id]
    assert len(known) == 1
    assert ledger.dead(DeadFilter()) == []


def test_the_letter_of_a_job_that_was_replayed_is_kept_with_it(ledger, dead):
    ledger.replay(DeadFilter())
    age(ledger, DEAD_LETTERS.c.died_at)
    ledger.prune(AGE)
    assert [letter.job_id for letter in ledger.dead(DeadFilter(replayed=True))] == [dead.id]


def test_a_job_of_which_an_event_was_set_aside_is_kept(ledger, dead):
    (letter,) = [row for row in ledger.outbox(10) if row.record.key == dead.id]
    ledger.set_aside({letter.id: "too large"})
    age(ledger, JOBS.c.ended_at, DEAD_LETTERS.c.died_at)
    ledger.prune(AGE)
    assert dead.id in {row.id for row in ledger.read(select(JOBS.c.id))}
    ledger.published([letter.id])
    ledger.prune(AGE)
    assert dead.id not in {row.id for row in ledger.read(select(JOBS.c.id))}


def test_the_letter_of_a_record_that_was_just_refused_is_kept(ledger, dead):
    fixed = {"category": "invalid", "reason": "r", "stage": "ingest", "attempts": 0, "topic": "t", "headers": "{}",
             "value": b""}  # fmt: skip
    now = ledger.now()
    with writing(ledger.engine) as tx:
        tx.execute(insert(DEAD_LETTERS), [
            {**fixed, "id": "new", "job_id": None, "died_at": now},
            {**fixed, "id": "old", "job_id": None, "died_at": now - 2 * AGE},
            {**fixed, "id": "of no job", "job_id": "gone", "died_at": now - 2 * AGE},
        ])  # fmt: skip
    ledger.prune(AGE)
    assert {letter.id for letter in ledger.dead(DeadFilter()) if letter.job_id != dead.id} == {"new"}


def test_a_bounded_number_is_forgotten_at_once(ledger, job):
    ledger.ingest([job() for _ in range(501)])
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).values(state="done", ended_at=1))
    assert ledger.prune(AGE) is True
    assert len(jobs(ledger)[0]) == 1
    assert ledger.prune(AGE) is False
    assert jobs(ledger) == ([], [])


def test_what_was_learnt_of_groups_is_forgotten_when_it_is_old(ledger):
    now = ledger.now()
    with writing(ledger.engine) as tx:
        tx.execute(insert(BUDGETS), [
            {"group_key": "old", "tokens": 1, "learnt_at": now - 2 * AGE},
            {"group_key": "new", "tokens": 1, "learnt_at": now},
        ])  # fmt: skip
    ledger.prune(AGE)
    assert ledger.read(select(BUDGETS.c.group_key)) == [("new",)]


def test_tenants_that_have_been_overtaken_are_forgotten_and_nothing_changes_for_them(ledger, job, claim):
    ledger.ingest([job(tenant="served")])
    claim()
    ledger.ingest([job(tenant="ahead", tokens=500)])
    served = ledger.read(select(TURNS.c.turn).where(TURNS.c.tenant == CLOCK))
    ledger.prune(AGE)
    assert {row.tenant for row in ledger.read(select(TURNS.c.tenant))} == {CLOCK, "ahead"}
    ledger.ingest([job(tenant="served")])
    ((turn,),) = ledger.read(select(func.max(STEPS.c.turn)).where(STEPS.c.state == "ready", STEPS.c.turn < 500))
    assert turn == served[0].turn + 10


@pytest.mark.parametrize("table", ["budgets", "turns", "letters"])
def test_of_each_kind_a_bounded_number_is_forgotten_at_once(ledger, table):
    rows = {
        "budgets": (BUDGETS, {"tokens": 1, "learnt_at": 1}, "group_key"),
        "turns": (TURNS, {"queue": "q", "lane": 1, "urgency": 9, "flow": 0, "turn": 1}, "tenant"),
        "letters": (DEAD_LETTERS, {"category": "invalid", "reason": "r", "stage": "ingest", "attempts": 0, "topic": "t",
                                   "headers": "{}", "value": b"", "died_at": 1}, "id"),
    }  # fmt: skip
    of, fixed, key = rows[table]
    with writing(ledger.engine) as tx:
        tx.execute(insert(of), [{**fixed, key: str(n)} for n in range(501)])
        if table == "turns":
            tx.execute(insert(of), [{**fixed, "tenant": CLOCK}])
    left = select(func.count()).select_from(of).where(of.c[key] != CLOCK)
    assert ledger.prune(AGE) is True
    assert ledger.read(left) == [(1,)]
    assert ledger.prune(AGE) is False
    assert ledger.read(left) == [(0,)]


def test_what_another_holds_is_left(ledger, dead):
    if ledger.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    age(ledger, JOBS.c.ended_at, DEAD_LETTERS.c.died_at)
    with writing(ledger.engine) as tx:
        tx.execute(select(JOBS).where(JOBS.c.id == dead.id).with_for_update())
        ledger.prune(AGE)
    assert len(jobs(ledger)[0]) == 2
    ledger.prune(AGE)
    assert len(jobs(ledger)[0]) == 1
