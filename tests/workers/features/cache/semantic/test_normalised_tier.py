"""The normalised tier: a question in another form gets the answer, and all else is as for the very same request."""

import pytest
from sqlalchemy import select, update
from tests.workers.features.cache.semantic.conftest import tiers

from headrace_schemas import Answer
from headrace_schemas.recall import CacheMode, CacheTier
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import STEPS
from headrace_workers.features.cache.semantic.lookup import Lookup
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.entries import Admit, kill
from headrace_workers.features.cache.tables import ENTRIES, SERVES

ASKED, ALIKE = "What is the capital of France?", "Hi team, what is the capital of  france"


def first(flow, asks, **more):
    (job,) = flow.send(asks(**{"prompt": ASKED, "cache": "normalised", **more}))
    flow.drain()
    return job


def again(flow, asks, prompt=ALIKE, **more):
    (job,) = flow.send(asks(**{"prompt": prompt, "cache": "normalised", "idempotency_key": prompt, **more}))
    flow.drain()
    (tier,) = tiers(flow, [job])
    return tier


def test_another_form_is_answered_without_a_model_and_the_receipt_names_the_tier(flow, asks):
    job = first(flow, asks)
    assert again(flow, asks) == "normalised"
    assert flow.generated == [job]
    (served,) = flow.ledger.read(select(SERVES))
    assert (served.first_job, served.tier, served.similarity, served.share) == (job, "normalised", None, None)
    assert flow.ledger.of(Answers).counts().kept.served == {"normalised": 1}
    assert again(flow, asks, ASKED) == "exact"


def test_the_semantic_mode_includes_it_without_an_embedder(flow, asks):
    first(flow, asks, cache="semantic")
    assert again(flow, asks, cache="semantic") == "normalised"


@pytest.mark.parametrize(("made", "asked"), [("exact", "normalised"), ("normalised", "exact")])
def test_an_exact_job_neither_gives_nor_gets_in_another_form(flow, asks, made, asked):
    first(flow, asks, cache=made)
    assert again(flow, asks, cache=asked) == "none"


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "other"},
        {"prompt": "What is the capital of Spain?"},
        {"sampling": {"max_tokens": 7}},
        {"model": "other"},
        {"prompt": None, "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": ALIKE}]},
    ],
)
def test_all_else_must_be_the_same(flow, asks, other):
    first(flow, asks)
    (asked,) = [asks(**{"prompt": ALIKE, "cache": "normalised", **other})]
    (found,) = flow.cache.look_up([Lookup("0" * 36, asked, CacheMode.NORMALISED)])
    assert found.decision != "hit"
    (found,) = flow.cache.look_up([Lookup("1" * 36, asks(ALIKE), CacheMode.NORMALISED)])
    assert found.decision == "hit"


def test_a_turn_of_a_conversation_counts_as_it_stands(flow, asks):
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    first(flow, asks, prompt=None, messages=[*turns, {"role": "user", "content": ASKED}])
    last = {"role": "user", "content": ALIKE}
    assert again(flow, asks, prompt=None, messages=[*turns, last], idempotency_key="2") == "none"


def test_a_dead_or_old_answer_is_not_served(flow, asks):
    first(flow, asks)
    with writing(flow.ledger.engine) as tx:
        tx.execute(update(ENTRIES).values(made_at=ENTRIES.c.made_at - 10_000))
    assert again(flow, asks, max_age=5.0) == "none"
    with writing(flow.ledger.engine) as tx:
        kill(tx, [row.id for row in flow.ledger.read(select(ENTRIES.c.id))], "wrong")
    assert again(flow, asks, "hello team, what is the capital of france?") == "none"


def test_the_answer_of_a_later_model_is_served_for_that_model_alone(flow, asks):
    chain = asks(ASKED, cache="normalised", model=("echo", "other"))
    (made,) = flow.cache.look_up([Lookup("0" * 36, chain, CacheMode.NORMALISED)])
    usage = {"prompt_tokens": 1, "completion_tokens": 1}
    answer = Answer(text="x", finish_reason="stop", model="other", quantization="q", usage=usage)
    with writing(flow.ledger.engine) as tx:
        Admit(made.leads, answer.model_dump_json().encode(), 1.0, 60_000, place=made.places["other"]).write(tx)
    found = {}
    for model in ("other", "echo"):
        asked = Lookup(model.rjust(36), asks(ALIKE, cache="normalised", model=model), CacheMode.NORMALISED)
        (found[model],) = flow.cache.look_up([asked])
    assert found["other"].decision == "hit"
    assert found["other"].tier is CacheTier.NORMALISED
    assert found["echo"].decision != "hit"


FORMS = (ASKED, ALIKE, "what's the capital of france")


@pytest.mark.parametrize("groups", [1, 3])
def test_one_of_several_forms_that_come_at_once_is_generated(flow, asks, groups):
    jobs = []
    for part in [FORMS] if groups == 1 else [[form] for form in FORMS]:
        jobs += flow.send(*(asks(form, cache="normalised", idempotency_key=form) for form in part))
        flow.run("recall")
    assert sorted(flow.states(jobs)) == ["done", "parked", "parked"]
    flow.drain()
    assert len(flow.generated) == 1
    assert sorted(tiers(flow, jobs)) == ["none", "normalised", "normalised"]


def test_who_waited_for_a_form_that_yielded_waits_for_the_same_job(flow, asks):
    jobs = flow.send(*(asks(form, cache="normalised", idempotency_key=f"{form}{n}") for form in FORMS for n in (1, 2)))
    flow.run("recall")
    (leader,) = [job for job, state in zip(jobs, flow.states(jobs), strict=True) if state == "done"]
    waits = flow.ledger.read(select(STEPS.c.waits_for).where(STEPS.c.state == "parked"))
    assert {row.waits_for for row in waits} == {leader}


def test_interactive_work_waits_for_no_bulk_work_in_another_form(flow, asks):
    flow.send(asks(ASKED, cache="normalised", lane="batch"))
    flow.run("recall", lane=1)
    (urgent,) = flow.send(asks(ALIKE, cache="normalised"))
    flow.run("recall")
    assert flow.states([urgent]) == ["done"]
