"""The very same request: served again, made once however many ask at a time, and never where it must not."""

import pytest
from sqlalchemy import select, update
from tests.workers.features.cache.semantic.conftest import tiers

from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import STEPS
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.entries import kill
from headrace_workers.features.cache.tables import ENTRIES, SERVES


def entries(flow):
    return [row.state for row in flow.ledger.read(select(ENTRIES.c.state).order_by(ENTRIES.c.id))]


def test_the_same_request_is_answered_without_a_model(flow, asks):
    (first,) = flow.send(asks())
    flow.drain()
    (second,) = flow.send(asks(idempotency_key="again"))
    flow.drain()
    assert flow.generated == [first]
    one, two = flow.result(first).answer, flow.result(second).answer
    assert (one.text, one.recall.tier) == (two.text, "none")
    assert (two.recall.tier, two.recall.first_job, two.usage.completion_tokens) == ("exact", first, 0)
    assert two.recall.saved_tokens == one.usage.prompt_tokens + one.usage.completion_tokens
    (served,) = flow.ledger.read(select(SERVES))
    assert (served.job_id, served.first_job, served.tier) == (second, first, "exact")


def test_a_job_that_asks_for_nothing_pays_nothing(flow, asks):
    (job,) = flow.send(asks(cache="off"))
    assert flow.run("recall") == 0
    flow.drain()
    assert flow.result(job).answer.recall is None
    assert entries(flow) == []


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "other"},
        {"prompt": "Name a river!"},
        {"sampling": {"max_tokens": 7}},
        {"sampling": {"temperature": 0.5}},
        {"sampling": {"repetition_penalty": 1.5}},
        {
            "prompt": None,
            "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Name a river."}],
        },
    ],
)
def test_another_request_is_another_request(flow, asks, other):
    flow.send(asks())
    flow.drain()
    (second,) = flow.send(asks(**{**other, "idempotency_key": "2"}))
    flow.drain()
    assert tiers(flow, [second]) == ["none"]
    assert second in flow.generated


def test_what_temperature_0_ignores_makes_no_difference(flow, asks):
    flow.send(asks())
    flow.drain()
    (second,) = flow.send(asks(sampling={"top_p": 0.5, "top_k": 3, "seed": 7}))
    flow.drain()
    assert tiers(flow, [second]) == ["exact"]


def test_many_that_ask_at_a_time_cost_one_generation(flow, asks):
    jobs = flow.send(*(asks(idempotency_key=str(n)) for n in range(20)))
    flow.run("recall")
    jobs += flow.send(*(asks(idempotency_key=str(n)) for n in range(20, 40)))
    flow.run("recall")
    assert flow.states(jobs).count("parked") == 39
    flow.run("model.echo")
    assert flow.states(jobs).count("parked") == 39
    flow.run("moderate")  # from here on it is everybody's
    assert flow.states(jobs).count("ready") == 39
    flow.drain()
    assert len(flow.generated) == 1
    assert sorted(tiers(flow, jobs)) == ["coalesced"] * 39 + ["none"]
    attempts = flow.ledger.read(select(STEPS.c.attempts).where(STEPS.c.stage == "recall"))
    assert {row.attempts for row in attempts} == {1}


def test_who_has_waited_long_enough_runs_by_itself(flow, asks):
    """A slow leader holds nobody up; its own answer is admitted all the same."""
    flow.max_wait = 0.0
    jobs = flow.send(*(asks(idempotency_key=str(n)) for n in range(3)))
    flow.__post_init__()
    flow.run("recall")
    assert flow.states(jobs).count("parked") == 2
    assert flow.ledger.due().steps
    flow.ledger.reap(3)
    flow.drain()
    assert len(flow.generated) == 3
    assert entries(flow) == ["live"]


def test_interactive_work_waits_for_no_bulk_work(flow, asks):
    (bulk,) = flow.send(asks(lane="batch", idempotency_key="bulk"))
    flow.run("recall", lane=1)
    (urgent,) = flow.send(asks(idempotency_key="urgent"))
    flow.drain()
    assert flow.result(bulk) is None
    assert tiers(flow, [urgent]) == ["none"]


def test_max_age_is_kept(flow, asks):
    flow.send(asks())
    flow.drain()
    with writing(flow.ledger.engine) as tx:
        tx.execute(update(ENTRIES).values(made_at=ENTRIES.c.made_at - 10_000))
    old, new = flow.send(asks(max_age=60.0, idempotency_key="2"), asks(max_age=5.0, idempotency_key="3"))
    flow.drain()
    assert tiers(flow, [old, new]) == ["exact", "none"]
    assert entries(flow) == ["dead", "live"]


def test_what_is_too_old_is_served_no_more(flow, asks):
    flow.send(asks())
    flow.drain()
    with writing(flow.ledger.engine) as tx:
        tx.execute(update(ENTRIES).values(expires_at=1))
    (second,) = flow.send(asks(idempotency_key="2"))
    flow.run("recall")
    assert flow.states([second], "generate") == ["ready"]
    flow.drain()
    assert entries(flow) == ["dead", "live"]


def test_the_reaper_puts_away_what_is_too_old(flow, asks):
    flow.send(asks())
    flow.drain()
    assert not flow.ledger.due().steps
    with writing(flow.ledger.engine) as tx:
        tx.execute(update(ENTRIES).values(expires_at=1))
    assert flow.ledger.due().steps
    flow.ledger.reap(3)
    assert entries(flow) == ["dead"]


def test_a_recalled_answer_is_dead_at_once(flow, asks):
    flow.send(asks())
    flow.drain()
    with writing(flow.ledger.engine) as tx:
        assert kill(tx, [row.id for row in flow.ledger.read(select(ENTRIES.c.id))], "wrong") == 1
    (second,) = flow.send(asks(idempotency_key="2"))
    flow.drain()
    assert tiers(flow, [second]) == ["none"]


def test_a_leader_that_is_run_again_still_leads(flow, asks):
    (job,) = flow.send(asks())
    from headrace_workers.features.cache.semantic.lookup import Lookup

    flow.cache.look_up([Lookup(job, asks(), asks().cache)])
    flow.drain()
    assert (tiers(flow, [job]), entries(flow)) == (["none"], ["live"])


def test_an_answer_that_came_to_live_between_two_looks_is_served(flow, asks, monkeypatch):
    """Who looked a moment too early would else make it once more, and be told to make it."""
    flow.send(asks())
    flow.drain()
    monkeypatch.setattr(flow.ledger.of(Answers), "exact", lambda keys: {})
    late = flow.send(asks(idempotency_key="2"), asks(idempotency_key="3"))
    flow.drain()
    assert tiers(flow, late) == ["exact", "exact"]
    assert entries(flow) == ["live"]


def test_what_died_is_forgotten(flow, asks):
    """Whoever purges an answer does so because of what it says."""
    flow.send(asks())
    flow.drain()
    with writing(flow.ledger.engine) as tx:
        kill(tx, [row.id for row in flow.ledger.read(select(ENTRIES.c.id))], "wrong")
    (row,) = flow.ledger.read(select(ENTRIES.c.question, ENTRIES.c.vector, ENTRIES.c.answer, ENTRIES.c.reason))
    assert tuple(row) == (None, None, None, "wrong")
