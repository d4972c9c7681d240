from sqlalchemy import select, update
from tests.services.eventually import eventually
from tests.workers.core.ledger.after import After, answer
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import evaluation

from headrace_schemas import Category
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import clock, writing
from headrace_workers.core.tables import JOBS, STEPS


def heard(ledger, **changes):
    after = After(ledger, **changes)
    (job,) = take_in(ledger, [evaluation(metadata={"tell": "a"})])
    answer(ledger, job)
    after.relay()
    after.run()
    return after


def kinds(ledger):
    """What is still known; all steps are of it."""
    rows = ledger.read(select(JOBS.c.id, JOBS.c.subject))
    assert {row.id for row in rows} == {row.job_id for row in ledger.read(select(STEPS.c.job_id))}
    return {"job" if row.subject is None else "unit" for row in rows}


def ended(ledger, seconds):
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).values(ended_at=clock(tx) - seconds * 1_000))


def test_a_unit_is_remembered_like_a_job(ledger):
    heard(ledger)
    ended(ledger, 40)
    ledger.prune(60_000)
    assert kinds(ledger) == {"job", "unit"}
    ledger.prune(30_000)
    assert kinds(ledger) == set()


def test_a_replayed_unit_has_its_patience_anew(ledger):
    """Else it would expire at once. Those that live go on as they were."""
    after = After(ledger, patience=7_200.0)
    (job,) = take_in(ledger, [evaluation(metadata={"tell": "a b"})])
    answer(ledger, job)
    after.relay()
    (unit, other) = ledger.read(select(JOBS.c.id).where(JOBS.c.subject.is_not(None)))
    others = select(STEPS.c.deadline, JOBS.c.accepted_at).join(JOBS, JOBS.c.id == STEPS.c.job_id)
    others = others.where(JOBS.c.id.in_([other.id, job])).order_by(JOBS.c.id)
    before = ledger.read(others)
    for _ in range(2):
        with writing(ledger.engine) as tx:  # three hours go by
            tx.execute(update(JOBS).where(JOBS.c.id == unit.id).values(accepted_at=JOBS.c.accepted_at - 10_800_000))
            tx.execute(update(STEPS).where(STEPS.c.job_id == unit.id).values(deadline=STEPS.c.deadline - 10_800_000))
        ledger.reap(3)
        (letter,) = ledger.dead(DeadFilter())
        assert (letter.job_id, letter.category) == (unit.id, Category.EXPIRED)
        assert ledger.replay(DeadFilter()) == (1, 0)
        assert ledger.reap(3).expired == 0
        (step,) = ledger.read(select(STEPS).where(STEPS.c.job_id == unit.id))
        assert 7_190_000 < step.deadline - ledger.now() <= 7_200_000
    assert ledger.read(others) == before
    after.run()
    assert set(after.units().values()) == {"done"}


def test_a_replayed_job_has_the_deadline_that_its_sender_gave(ledger, job):
    until = ledger.now() + 1
    ledger.ingest([job(deadline=until)])
    eventually(lambda: ledger.reap(3).expired)
    assert ledger.replay(DeadFilter()) == (1, 0)
    assert ledger.read(select(STEPS.c.deadline)) == [(until,)]
