"""A look at the ledger counts what is there; what a look wrote down is what the next one and all gateways read."""

import json

import pytest
from sqlalchemy import update
from tests.workers.core.ledger.test_complete import dies, ends
from tests.workers.core.ledger.test_counts import begin, end

from headrace_schemas import Topic
from headrace_workers.core.ledger import metrics
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.counts import ready_work
from headrace_workers.core.ledger.metrics import LedgerMetrics
from headrace_workers.core.ledger.outbox import Outgoing, put
from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.tables import JOBS, METRICS, NEVER, STEPS


@pytest.fixture(autouse=True)
def settled(monkeypatch):
    monkeypatch.setattr(metrics, "_SETTLED_MS", -1_000)


def values(ledger, state=None, workers=None):
    """The samples of a look, by name and labels."""
    return samples(ledger.of(LedgerMetrics).look(state or {}, workers))


def samples(seen):
    return {
        (sample.name.removeprefix("headrace_"), *sample.labels.values()): sample.value
        for metric in seen.metrics for sample in metric.samples
    }  # fmt: skip


def set_steps(ledger, *job_ids, **columns):
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).where(STEPS.c.job_id.in_(job_ids)).values(**columns))


def test_steps_are_counted_by_queue_lane_and_state(ledger, job, claim):
    jobs = [job(rank=n) for n in range(6)] + [job(lane=0, queue="z")]
    ledger.ingest(jobs)
    begin(ledger, claim)
    set_steps(ledger, jobs[1].id, state="waiting", ready_at=NEVER)
    set_steps(ledger, jobs[2].id, state="parked", waits_for="x", ready_at=NEVER)
    set_steps(ledger, jobs[3].id, state="held", held_at=1, ready_at=NEVER)
    found = values(ledger)
    assert [found[f"jobs_{state}", "q", "batch"] for state in ("ready", "leased", "waiting", "parked")] == [2, 1, 1, 1]
    assert found["jobs_ready", "z", "interactive"] == 1
    assert found["jobs_held", "generate", "person"] == 1
    assert found["jobs_leased", "z", "interactive"] == found["jobs_ready", "z", "batch"] == 0


@pytest.mark.parametrize("due", [(NEVER, NEVER), (NEVER, 1), (1, NEVER)])
def test_the_oldest_ready_step_counts_and_not_the_next_one(ledger, job, due):
    """Whenever both are due."""
    urgent, old = job(rank=0), job(rank=9)
    ledger.ingest([urgent, old])
    now = ledger.now()
    set_steps(ledger, old.id, ready_at=now - 90_000, due=due[0])
    set_steps(ledger, urgent.id, ready_at=now - 1_000, due=due[1])
    assert 90 <= values(ledger)["jobs_oldest_ready_seconds", "q", "batch"] < 150


def test_slack_is_the_time_to_the_first_job_that_is_due_or_expires(ledger, job):
    due, expiring, never = job(), job(queue="window"), job(queue="never")
    ledger.ingest([due, expiring, never, job()])
    now = ledger.now()
    set_steps(ledger, due.id, due=now - 60_000, deadline=now + 60_000)
    set_steps(ledger, expiring.id, deadline=now + 3_600_000)
    found = values(ledger)
    assert -120 < found["deadline_slack_seconds", "q"] <= -60
    assert 3_400 < found["deadline_slack_seconds", "window"] <= 3_600
    assert ("deadline_slack_seconds", "never") not in found


def test_ready_work_is_told_apart_by_when_it_is_due(ledger, job):
    soon, later, never = [job(tokens=5) for _ in range(3)], [job(tokens=7) for _ in range(2)], [job()]
    ledger.ingest([*soon, *later, *never])
    now = ledger.now()
    set_steps(ledger, *(item.id for item in soon), due=now + 20_000)
    set_steps(ledger, *(item.id for item in later), deadline=now + 86_400_000)
    with reading(ledger.engine) as tx:
        work = sorted(ready_work(tx), key=lambda row: row.due)
    assert [(row.steps, row.tokens, row.due) for row in work] == [
        (3, 15, now + 20_000), (2, 14, now + 86_400_000), (1, 10, NEVER)
    ]  # fmt: skip


def test_ends_are_counted_once_over_looks_also_when_the_jobs_are_deleted(ledger, job, claim):
    store = ledger.of(LedgerMetrics)
    first = store.look({})
    jobs = [job(rank=n) for n in range(4)]
    ledger.ingest(jobs)
    end(ledger, begin(ledger, claim), ends(jobs[0].id, "headrace.result.v1"))
    end(ledger, begin(ledger, claim), dies(jobs[1].id))
    ledger.cancel(Cancellation(jobs[2].id, "a", ""))
    first.state["until"] -= 60_000  # it was looked a minute ago
    second = store.look(first.state)
    assert {tuple(row[:2]): row[2] for row in second.state["sums"]["headrace_jobs_ended"]} == {
        ("done", "generation"): 1, ("dead", "generation"): 1, ("cancelled", "generation"): 1
    }  # fmt: skip
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).values(ended_at=None))
    assert values(ledger, second.state)["jobs_ended_total", "done", "generation"] == 1


def test_a_clock_that_is_set_back_stops_no_counter_and_makes_no_age_negative(ledger, job, claim, monkeypatch):
    store, hour = ledger.of(LedgerMetrics), 3_600_000
    store.put(
        metrics.Seen([], {"until": ledger.now() + hour, "sums": {"headrace_jobs_ended": [["done", "generation", 5]]}})
    )
    with writing(ledger.engine) as tx:
        tx.execute(update(METRICS).values(at=METRICS.c.at + hour))
    assert store.last().age_ms == 0
    seen = store.look(store.last().state)
    new = job()
    ledger.ingest([new])
    end(ledger, begin(ledger, claim), ends(new.id, "headrace.result.v1"))
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).values(ended_at=seen.state["until"] + 1))
    monkeypatch.setattr(metrics, "_SETTLED_MS", -60_000)
    assert values(ledger, seen.state)["jobs_ended_total", "done", "generation"] == 6


def test_dead_letters_and_the_outbox_are_counted(ledger, job, claim):
    new = job()
    ledger.ingest([new])
    end(ledger, begin(ledger, claim), dies(new.id))
    found = values(ledger)
    assert (found["dead_letters",], found["outbox_rows",], found["outbox_set_aside_rows",]) == (1, 1, 0)
    assert found["outbox_oldest_seconds",] >= 0


def test_an_event_that_kafka_refused_is_not_the_oldest(ledger):
    headers = [{"ce_time": "2020-01-01T00:00:00.000Z"}, {"ce_time": "2021-01-01T00:00:00.000Z"}]
    with writing(ledger.engine) as tx:
        put(tx, [Outgoing(Topic.RESULTS, "k", header, b"") for header in headers])
    oldest = values(ledger)["outbox_oldest_seconds",]
    first, _ = ledger.outbox(10)
    ledger.set_aside({first.id: "too large"})
    found = values(ledger)
    assert oldest - found["outbox_oldest_seconds",] > 300 * 86_400
    assert (found["outbox_rows",], found["outbox_set_aside_rows",]) == (2, 1)


def test_a_look_that_was_written_down_is_read_as_it_was(ledger, job):
    store = ledger.of(LedgerMetrics)
    assert store.last() is None
    ledger.ingest([job(), job(lane=0)])
    seen = store.look({})
    store.put(metrics.Seen([], {}))
    store.put(seen)
    last = store.last()
    assert [(one.name, one.type, one.documentation, one.samples) for one in last.metrics] == [
        (one.name, one.type, one.documentation, one.samples) for one in seen.metrics
    ]
    assert last.state == json.loads(json.dumps(seen.state))
    assert 0 <= last.age_ms < 60_000


def test_workers_are_counted_by_what_they_do(ledger, job, claim):
    ledger.ingest([job(), job()])
    begin(ledger, claim, "one")
    begin(ledger, claim, "one")
    found = values(ledger, workers={"q": [1, 1, 1], "idle": [1]})
    assert (found["workers", "q", "busy"], found["workers", "q", "idle"]) == (1, 2)
    assert (found["workers", "idle", "busy"], found["workers", "idle", "idle"]) == (0, 1)


def test_wanted_workers_follow_from_what_is_ready_and_from_the_rate_that_was_learnt(ledger, job, claim, monkeypatch):
    """Steps that ran together took their time once."""
    store = ledger.of(LedgerMetrics)
    first = store.look({}, {"q": [1]})
    first.state["until"] -= 60_000
    done, ready = [job(tokens=100) for _ in range(4)], [job(tokens=1_000) for _ in range(9)]
    ledger.ingest(done)
    begun = ledger.start(claim(limit=4).id, worker="w", lease_ms=60_000)
    assert ledger.complete(
        begun.claim_id, [ends(item.id, "headrace.result.v1") for item in done], ran_ms=1, quantum_ms=5_000
    )
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(started_at=STEPS.c.ended_at - 10_000))
    ledger.ingest(ready)
    set_steps(ledger, *(item.id for item in ready), due=ledger.now() + 85_000)
    assert samples(store.look(first.state, {"q": [1]}))["workers_wanted", "q"] == 8
    second = store.look(first.state, {"q": [4, 4]})  # 40 tokens a second and slot: 9,000 in less than 30 s
    assert samples(second)["workers_wanted", "q"] == 2
    store.put(second)
    last = store.last().state
    without_redis = samples(store.look(last))
    assert (without_redis["workers_wanted", "q"], without_redis["workers", "q", "idle"]) == (2, 2)
    set_steps(ledger, *(item.id for item in ready), state="done")
    gone = store.look(last)
    assert samples(gone)["workers_wanted", "q"] == 2  # for a while
    later = ledger.now() / 1000 + 400
    monkeypatch.setattr(metrics, "clock", lambda _: int(later * 1000))
    assert samples(store.look(last, {}))["workers_wanted", "q"] == 0


def test_a_queue_that_had_no_work_and_no_worker_for_a_day_is_forgotten(ledger, job, monkeypatch):
    store = ledger.of(LedgerMetrics)
    seen, hour = store.look({}, {"q": [1]}), 3_600_000
    now = ledger.now()
    monkeypatch.setattr(metrics, "clock", lambda _: now + 23 * hour)
    assert ("workers_wanted", "q") in samples(store.look(seen.state, {}))
    monkeypatch.setattr(metrics, "clock", lambda _: now + 25 * hour)
    assert ("workers_wanted", "q") not in samples(store.look(seen.state, {}))
