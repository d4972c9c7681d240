import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, text, update
from tests.services.eventually import eventually
from tests.workers.core.ledger.test_complete import ends

from headrace_schemas import Category, Topic
from headrace_schemas.limits import MAX_VALUE_BYTES
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.dead_letters import Burial, job_burial
from headrace_workers.core.ledger.outcome import Dead
from headrace_workers.core.ledger.replay import DeadFilter, replay_these
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import DEAD_LETTERS, JOBS, STEPS


@pytest.fixture
def die(ledger, claim):
    """Lets the one ready job die, as a worker would have it; the attempt that it was."""

    def let_die():
        (row,) = ledger.start(claim().id, worker="w", lease_ms=60_000).steps
        (claimed,) = ledger.read(select(STEPS.c.claim_id).where(STEPS.c.state == "leased"))
        dead = Dead(Category.PERMANENT, "because")
        settled = StepResult(row.job_id, dead, burial=job_burial(row, "generate", dead))
        assert ledger.complete(claimed.claim_id, [settled], ran_ms=1, quantum_ms=1)
        return row.attempts

    return let_die


def test_a_job_that_dies_again_has_a_letter_of_its_own_for_that(ledger, job, die):
    ledger.ingest([only := job()])
    die()
    assert ledger.replay(DeadFilter(id=only.id)) == (1, 0)
    assert ledger.job(only.id).job.terminal is None
    die()
    told = ledger.outbox(10)
    assert len({row.record.headers["ce_id"] for row in told}) == len(told) == 2
    letters = ledger.dead(DeadFilter(id=only.id, replayed=True))
    assert {letter.id for letter in letters} == {row.record.headers["ce_id"] for row in told}
    assert sorted(letter.replayed_at is None for letter in letters) == [False, True]
    assert ledger.job(only.id).job.state == "dead"


def test_a_replay_begins_to_count_anew(ledger, job, die):
    ledger.ingest([only := job()])
    die()
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(attempts=5, crashes=11))
    ledger.replay(DeadFilter())
    (step,) = ledger.job(only.id).steps
    assert (step.state, step.attempts, step.crashes, step.ended_at) == ("ready", 0, 0, None)
    assert die() == 1
    assert json.loads(bytes(ledger.job(only.id).job.terminal))["attempts"] == 1


def test_only_the_dead_are_given_another_chance(ledger, job, die, claim):
    ledger.ingest([only := job()])
    die()
    ledger.replay(DeadFilter())
    begun = ledger.start(claim().id, worker="w", lease_ms=60_000)
    assert [row.replays for row in begun.steps] == [1]
    answer = ends(only.id, "headrace.result.v1")
    assert ledger.complete(begun.claim_id, [answer], ran_ms=1, quantum_ms=1)
    ledger.replay(DeadFilter(id=only.id, replayed=True))
    (row,) = ledger.read(select(JOBS.c.state, JOBS.c.replays))
    assert (row.state, row.replays) == ("done", 1)
    assert claim() is None


def refused(name, size):
    """The letter of a record that was refused, with a value of so many bytes."""
    return Burial(
        id=name, job_id=None, tenant=None, category=Category.INVALID, reason="because", stage="ingest", attempts=0,
        topic=Topic.GENERATION, value=b"x" * size, headers={"ce_type": "t"},
    )  # fmt: skip


def test_a_replay_reads_a_bounded_part_at_a_time(ledger):
    ledger.ingest([], [refused(f"cut{n}", MAX_VALUE_BYTES + 1) for n in range(3)])
    ledger.ingest([], [refused(f"l{n}", 900_000) for n in range(12)])
    ledger.published([row.id for row in ledger.outbox(99)])
    replays = [ledger.replay(DeadFilter(), 5) for _ in range(4)]
    assert replays == [(5, 0), (5, 0), (2, 3), (0, 3)]
    assert len(ledger.outbox(99)) == 12
    assert ledger.replay(DeadFilter(id="cut1"), 1) == (0, 1)
    with writing(ledger.engine) as tx:
        tx.execute(update(DEAD_LETTERS).values(replayed_at=None))
    assert ledger.replay(DeadFilter()) == (9, 0)
    assert ledger.replay(DeadFilter()) == (3, 3)


def test_a_letter_that_is_listed_is_not_read_whole(ledger):
    ledger.ingest([], [refused("large", 900_000)])
    (letter,) = ledger.dead(DeadFilter(), whole=False)
    assert (letter.size, hasattr(letter, "value"), hasattr(letter, "headers")) == (900_000, False, False)


def test_named_letters_are_replayed_once_in_their_order_as_far_as_their_bytes_reach(ledger):
    sizes = {"a": 900_000, "b": 900_000, "cut": MAX_VALUE_BYTES + 1, "c": 900_000}
    ledger.ingest([], [refused(name, size) for name, size in sizes.items()])
    names = ["gone", "a", "cut", "b", "c"]
    with writing(ledger.engine) as tx:
        assert replay_these(tx, names, 1_000_000) == (3, 1, 1)
    with writing(ledger.engine) as tx:
        assert replay_these(tx, names) == (5, 2, 1)
    with writing(ledger.engine) as tx:
        assert replay_these(tx, names) == (5, 0, 1)
    assert len([row for row in ledger.outbox(99) if row.record.headers.get("ce_type") == "t"]) == 3


def test_two_who_replay_one_letter_at_once_publish_it_once(ledger):
    ledger.ingest([], [refused("one", 9)])
    ledger.published([row.id for row in ledger.outbox(99)])
    with ThreadPoolExecutor() as pool:
        with writing(ledger.engine) as tx:
            assert replay_these(tx, ["one"]) == (1, 1, 0)
            other = pool.submit(ledger.replay, DeadFilter(id="one"))
            if ledger.engine.dialect.name == "postgresql":  # SQLite has one writer at a time
                waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
                eventually(lambda: ledger.read(text(waits)))
        assert other.result(60) == (0, 0)
    assert len(ledger.outbox(99)) == 1
