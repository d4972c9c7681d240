"""What is handed out with its making: which queues, how many, and what happens when it cannot be sent."""

import pytest
from sqlalchemy import select
from tests.workers.core.ledger.test_complete import goes_on
from tests.workers.ledger_jobs import sqlite_ledger
from tests.workers.runtime.bridge.records import RULES, accept, generation, record
from tests.workers.tasks_in_memory import Tasks

from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.outcome import Done
from headrace_workers.core.tables import STEPS, TURNS
from headrace_workers.runtime.wire.assignment import Assigner, alone, behind


@pytest.fixture
def ledger(tmp_path):
    with sqlite_ledger(tmp_path) as ledger:
        yield ledger


def assigner(ledger, tasks, **changes):
    return Assigner(ledger=ledger, tasks=tasks, sender="bridge", depth=2, lease_ms=60_000, **changes)


def accepted(*jobs):
    return [accept(record(job), RULES) for job in jobs]


def take(ledger, way, jobs):
    taken = ledger.ingest(jobs, room=way.room(alone(jobs)))
    way.send(taken.assigned)
    return taken


def states(ledger):
    return [tuple(row) for row in ledger.read(select(STEPS.c.state, STEPS.c.attempts))]


def test_an_interactive_job_that_comes_alone_goes_out_at_once(ledger):
    """It is leased as it is written; it takes no turn, since nobody waits, and whoever counts claims is told."""
    tasks, sent = Tasks(), []
    jobs = accepted(generation(lane="interactive"))
    assert take(ledger, assigner(ledger, tasks, sent=sent.append), jobs).new == 1
    (claim,) = tasks.sent
    assert (claim.queue, claim.lane, claim.size, sent) == ("model.echo", 0, 1, [claim])
    assert states(ledger) == [("leased", 1)]
    begun = ledger.start(claim.id, worker="w", lease_ms=60_000)
    assert [row.job_id for row in begun.steps] == [jobs[0].id]
    assert ledger.read(select(TURNS)) == []


@pytest.mark.parametrize(
    "jobs",
    [[generation(lane="batch")], [generation(lane="interactive", prompt=p) for p in "ab"]],
    ids=["batch", "two of a queue"],
)
def test_what_can_be_grouped_is_left_to_the_bridge(ledger, jobs):
    tasks = Tasks()
    take(ledger, assigner(ledger, tasks), accepted(*jobs))
    assert (tasks.sent, tasks.asked, states(ledger)) == ([], 0, [("ready", 0)] * len(jobs))


@pytest.mark.parametrize(("lane", "count", "room"), [(0, 1, True), (1, 1, False), (1, 7, False), (1, 8, True)])
def test_a_few_steps_of_the_batch_lane_are_left_to_the_bridge(lane, count, room):
    step = goes_on("j").following[0]._replace(lane=lane)
    settled = [StepResult(f"j{number}", Done(), following=(step,)) for number in range(count)]
    assert behind(settled) == ({(step.queue, lane)} if room else set())


def test_a_full_queue_takes_nothing_more(ledger):
    tasks = Tasks(waiting=2)
    take(ledger, assigner(ledger, tasks), accepted(generation(lane="interactive")))
    assert (tasks.sent, states(ledger)) == ([], [("ready", 0)])


def test_what_was_known_goes_out_once(ledger):
    tasks, jobs = Tasks(), accepted(generation(lane="interactive"))
    for _ in range(2):
        take(ledger, assigner(ledger, tasks), jobs)
    assert len(tasks.sent) == 1


def test_what_cannot_be_sent_is_ready_again(ledger):
    take(ledger, assigner(ledger, Tasks(away=True)), accepted(generation(lane="interactive")))
    assert states(ledger) == [("ready", 0)]


def test_a_redis_that_says_nothing_is_not_asked_each_time(ledger):
    """Each question would take as long as Redis is given for an answer, and taking in needs none."""
    tasks = Tasks(away="silent")
    way = assigner(ledger, tasks)
    for prompt in "abc":
        take(ledger, way, accepted(generation(lane="interactive", prompt=prompt)))
    assert (tasks.asked, states(ledger)) == (1, [("ready", 0)] * 3)
