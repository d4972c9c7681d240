"""What ends an answer that lives: a later verdict, and its age, whatever it was of use for meanwhile."""

import pytest
from sqlalchemy import select, update
from tests.workers.features.cache.semantic.conftest import Flow, tiers
from tests.workers.features.cache.semantic.test_exact import entries

from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import STEPS
from headrace_workers.features.cache.tables import ENTRIES


def hold(flow: Flow, job_id: str) -> None:
    with writing(flow.ledger.engine) as tx:
        step = (STEPS.c.job_id == job_id) & (STEPS.c.stage == "judge")
        assert tx.execute(update(STEPS).where(step).values(state="held", ready_at=1)).rowcount == 1


def up_to_judge(flow: Flow, *jobs) -> list[str]:
    flow.do(without="judge")
    ids = flow.send(*jobs)
    while sum(flow.run(queue) for queue in ("recall", "model.echo", "moderate")):
        pass
    flow.do()
    return ids


def test_what_a_person_withholds_is_given_to_nobody(flow, asks):
    """Its answer was to be had since moderation."""
    (job,) = up_to_judge(flow, asks())
    hold(flow, job)
    assert entries(flow) == ["live"]
    assert flow.ledger.withhold([job], "not so") == {job}
    (row,) = flow.ledger.read(select(ENTRIES.c.state, ENTRIES.c.reason, ENTRIES.c.answer))
    assert tuple(row) == ("dead", "withheld: not so", None)
    (second,) = flow.send(asks(idempotency_key="2"))
    flow.drain()
    assert tiers(flow, [second]) == ["none"]


def test_an_answer_that_is_withheld_from_whom_it_was_given_dies_too(flow, asks):
    flow.send(asks())
    flow.drain()
    (second,) = up_to_judge(flow, asks(idempotency_key="2"))
    hold(flow, second)
    flow.ledger.withhold([second], "not so")
    assert entries(flow) == ["dead"]


def test_what_a_person_releases_lives_on(flow, asks):
    (job,) = up_to_judge(flow, asks())
    hold(flow, job)
    flow.ledger.release_held([job])
    flow.drain()
    assert entries(flow) == ["live"]


def test_a_served_answer_that_moderation_would_not_allow_now_dies(flow, asks):
    """The first who is given it is shown what today's policy lets through; nobody else is given it."""
    flow.send(asks())
    flow.drain()
    with writing(flow.ledger.engine) as tx:
        answer = flow.ledger.read(select(ENTRIES.c.answer))[0].answer
        tx.execute(update(ENTRIES).values(answer=answer.replace(b"river", b"jo@headrace.io")))
    (second,) = flow.send(asks(idempotency_key="2"))
    flow.drain()
    assert "[EMAIL]" in flow.result(second).answer.text
    assert entries(flow) == ["dead"]
    assert flow.ledger.read(select(ENTRIES.c.reason))[0].reason == "moderation would redact it now"


@pytest.mark.parametrize("use", ["served", "not served"])
def test_being_of_use_makes_no_answer_younger(flow, asks, use):
    flow.send(asks())
    flow.drain()
    (before,) = flow.ledger.read(select(ENTRIES.c.made_at, ENTRIES.c.expires_at))
    with writing(flow.ledger.engine) as tx:
        tx.execute(update(ENTRIES).values(made_at=ENTRIES.c.made_at - 10_000))
    if use == "served":
        flow.send(*(asks(idempotency_key=f"{n}") for n in range(5)))
        flow.drain()
    (after,) = flow.ledger.read(select(ENTRIES.c.made_at, ENTRIES.c.expires_at))
    assert (after.made_at, after.expires_at) == (before.made_at - 10_000, before.expires_at)
    (strict,) = flow.send(asks(max_age=9.0, idempotency_key="strict"))
    flow.drain()
    assert tiers(flow, [strict]) == ["none"]


def test_what_was_made_together_does_not_end_together(flow, asks):
    flow.send(*(asks(f"Name river {n}.", idempotency_key=str(n)) for n in range(20)))
    flow.drain()
    lives = {row.expires_at - row.made_at for row in flow.ledger.read(select(ENTRIES.c.made_at, ENTRIES.c.expires_at))}
    assert len(lives) > 10
    assert min(lives) >= 0.9 * 3_600_000 - 100
    assert max(lives) <= 3_600_000 + 100
