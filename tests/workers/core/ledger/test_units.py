"""What follows an event: a unit of work for each endpoint, which is no job."""

from sqlalchemy import select, update
from tests.workers.core.ledger.after import After, answer, told
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import evaluation, generation

from headrace_schemas import Category
from headrace_schemas.codec import decode_value
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.event_units import Following
from headrace_workers.core.ledger.outcome import Dead, Done, Retry
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.pipeline.stage import RetrySchedule
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS, OUTBOX, STEPS


def test_every_endpoint_hears_of_an_answer(ledger):
    after = After(ledger)
    (job,) = take_in(ledger, [told()])
    answer(ledger, job)
    (row,) = ledger.read(select(OUTBOX))
    assert after.relay() == 2
    with writing(ledger.engine) as tx:
        tx.execute(OUTBOX.insert().values(dict(row._mapping)))  # the bridge died before it forgot the event
    after.relay()
    assert after.units() == {(job, "a"): "active", (job, "b"): "active"}
    after.run()
    assert after.units() == {(job, "a"): "done", (job, "b"): "done"}
    assert sorted((unit.endpoint, unit.subject, unit.tenant, unit.attempt) for unit in after.heard) == [
        ("a", job, "default", 1), ("b", job, "default", 1),
    ]  # fmt: skip
    assert {unit.value for unit in after.heard} == {row.value}
    assert after.heard[0].event == decode_value("headrace.result.v1", row.value)


def test_every_kind_of_end_is_followed(ledger):
    after = After(ledger)
    dead, cancelled = take_in(ledger, [told(), told(input="c")])
    ledger.cancel(Cancellation(cancelled, "default", "enough"))
    ledger.cancel(Cancellation("f0000000-0000-0000-0000-000000000000", "default", "unheard of"))
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.job_id == dead).values(deadline=1))
    ledger.reap(3)
    after.relay()
    assert after.units() == {
        (dead, "a"): "active", (dead, "b"): "active", (cancelled, "a"): "active", (cancelled, "b"): "active",
        ("f0000000-0000-0000-0000-000000000000", "of default"): "active",
    }  # fmt: skip


def test_events_that_nobody_follows_make_nothing(ledger):
    after = After(ledger)
    (job,) = take_in(ledger, [evaluation()])
    answer(ledger, job)
    assert after.relay() == 0
    assert Following().units([], 1) == []
    assert after.units() == {}


def test_the_end_of_a_unit_is_told_to_nobody(ledger):
    after = After(
        ledger, lambda units: [Done() if u.endpoint == "a" else Dead(Category.PERMANENT, "410") for u in units]
    )
    (job,) = take_in(ledger, [told()])
    answer(ledger, job)
    after.relay()
    after.run()
    assert ledger.outbox(10) == []
    assert after.units() == {(job, "a"): "done", (job, "b"): "dead"}
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.stage, letter.reason, letter.refers_to) == ("after", "410", job)
    assert ledger.terminals([job])[job][0] == "headrace.result.v1"
    assert ledger.replay(DeadFilter()) == (1, 0)
    after.run()
    assert [unit.endpoint for unit in after.heard[-1:]] == ["b"]


def test_a_unit_has_retries_and_a_deadline_of_its_own(ledger):
    hourly = RetrySchedule(first=3_600.0, longest=3_600.0, attempts=50)
    after = After(ledger, lambda units: [Retry("503", after=1_800.0) for _ in units], retry=hourly, patience=7_200.0)
    (job,) = take_in(ledger, [evaluation(metadata={"tell": "a"})])
    answer(ledger, job)
    after.relay()
    for _ in range(5):  # the deployment gives three attempts
        after.run()
        (row,) = ledger.read(select(STEPS).where(STEPS.c.stage == "after"))
        assert row.state == "waiting"
        assert row.ready_at >= ledger.now() + 1_700_000
        with writing(ledger.engine) as tx:
            tx.execute(update(STEPS).where(STEPS.c.stage == "after").values(state="ready"))
    assert 0 < row.deadline - ledger.now() <= 7_200_000
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.stage == "after").values(deadline=1))
    ledger.reap(3)
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.category, letter.refers_to, after.units()) == (Category.EXPIRED, job, {(job, "a"): "dead"})
    assert ledger.outbox(10) == []


def test_units_are_no_jobs(ledger):
    after = After(ledger)
    (job,) = take_in(ledger, [told()])
    answer(ledger, job)
    after.relay()
    overview = ledger.overview()
    assert (ledger.active_jobs(), overview.active, overview.done, overview.ended_last_minute) == (0, 0, 1, 1)
    (unit, *_) = ledger.read(select(JOBS.c.id).where(JOBS.c.subject == job))
    assert ledger.cancel(Cancellation(unit.id, "default", "no")) == "already_ended"
    assert after.units() == {(job, "a"): "active", (job, "b"): "active"}
    after.run()
    overview = ledger.overview()
    assert (overview.done, overview.ended_last_minute) == (1, 1)


def test_an_endpoint_has_so_many_open_at_most(ledger):
    after = After(ledger, most_open=2)
    jobs = take_in(ledger, [evaluation(input=str(n), metadata={"tell": "a" if n < 3 else "b"}) for n in range(4)])
    for job in jobs:
        answer(ledger, job)
    after.relay()
    states = after.units()
    assert sorted(states[job, "a"] for job in jobs[:3]) == ["active", "active", "dead"]
    assert states[jobs[3], "b"] == "active"
    (letter,) = ledger.dead(DeadFilter())
    assert letter.reason.startswith("a has 2 of these open")
    after.run()
    assert ledger.replay(DeadFilter()) == (1, 0)
    after.run()
    assert set(after.units().values()) == {"done"}
    (later,) = take_in(ledger, [evaluation(input="later", metadata={"tell": "a"})])
    answer(ledger, later)
    after.relay()
    assert after.units()[later, "a"] == "active"  # those that have ended are not counted


def test_what_an_open_unit_is_about_is_kept(ledger):
    after = After(ledger)
    (job,) = take_in(ledger, [told()])
    answer(ledger, job)
    after.relay()
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).where(JOBS.c.id == job).values(ended_at=1))
    ledger.prune(1_000)
    assert len(ledger.read(select(JOBS))) == 3
    after.run()
    ledger.prune(1_000)
    assert {row.subject for row in ledger.read(select(JOBS))} == {job}
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).values(ended_at=1))
    ledger.prune(1_000)
    assert ledger.read(select(JOBS)) == ledger.read(select(STEPS)) == []


def test_what_kafka_refuses_is_followed_all_the_same(ledger):
    after = After(ledger)
    (job,) = take_in(ledger, [evaluation(metadata={"tell": "a"})])
    answer(ledger, job)
    (row,) = ledger.outbox(10)
    ledger.make_units(after.following.units([row.record], ledger.now()))
    ledger.set_aside({row.id: "too large"})
    assert after.units() == {(job, "a"): "active"}
    after.run()
    ledger.retry_outbox()
    after.relay()
    assert after.units() == {(job, "a"): "done"}


def test_an_event_about_a_generation_is_followed_with_its_job(ledger):
    after = After(ledger)
    (job,) = take_in(ledger, [generation(metadata={"tell": "x"})])
    answer(ledger, job)
    after.relay()
    assert after.units() == {(job, "x"): "active"}
