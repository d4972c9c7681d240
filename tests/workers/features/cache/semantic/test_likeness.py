"""The same question in other words: found by its vector, held to every guard, and never beyond its scope."""

import numpy as np
import pytest
from sqlalchemy import select, update
from tests.workers.features.cache.semantic.conftest import Flow, tiers

from headrace_schemas import Answer
from headrace_schemas.recall import CacheMode
from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.progress import Progress
from headrace_workers.core.sql.database import writing
from headrace_workers.features.cache.guards import refusal as guards
from headrace_workers.features.cache.semantic.lookup import AnswerLookup, Lookup
from headrace_workers.features.cache.semantic.nearest import NearestQuestions
from headrace_workers.features.cache.semantic.questions import Known, Questions
from headrace_workers.features.cache.store import entries
from headrace_workers.features.cache.store.entries import Admit, kill
from headrace_workers.features.cache.tables import ENTRIES
from headrace_workers.testing import HashEmbedder

ASKED = "How do I reset the password of my account?"
LIKE = "How do I reset my account's password?"
IN = "How do I reset the password of my account in {}?"


@pytest.fixture
def semantic(ledger):
    embedder = HashEmbedder()
    known = Known(embedder.dimensions)
    flow = Flow(ledger, AnswerLookup(ledger, lambda alias: f"{alias}/1", NearestQuestions(embedder, known, 0.7)))
    flow.known, flow.follower = known, Follower(Questions(ledger, known), Progress().loop("follow"))
    flow.follower.once()
    return flow


def ask(flow, asks, *prompts, **more):
    """Answer these one after the other, each known to the next; their jobs."""
    jobs = []
    for prompt in prompts:
        jobs += flow.send(asks(prompt, cache="semantic", idempotency_key=f"{len(jobs)}{prompt}", **more))
        flow.drain()
        flow.follower.once()
    return jobs


def test_the_answer_of_a_later_model_is_found_in_other_words_by_that_model_alone(semantic, asks):
    chain, job_id = asks(ASKED, cache="semantic", model=("echo", "other")), "0" * 36
    (made,) = semantic.cache.look_up([Lookup(job_id, chain, CacheMode.SEMANTIC)])
    semantic.follower.once()
    answer = Answer(
        text="x",
        finish_reason="stop",
        model="other",
        quantization="q",
        usage={"prompt_tokens": 1, "completion_tokens": 1},
    )
    with writing(semantic.ledger.engine) as tx:
        Admit(made.leads, answer.model_dump_json().encode(), 1.0, 60_000, place=made.places["other"]).write(tx)
    semantic.follower.once()
    for model, hit in (("other", True), (("other", "echo"), True), ("echo", False), (("echo", "other"), False)):
        asked = Lookup(f"{model}"[:36], asks(LIKE, cache="semantic", model=model), CacheMode.SEMANTIC)
        (found,) = semantic.cache.look_up([asked])
        assert (found.decision == "hit") == hit


def test_the_same_question_in_other_words_is_served(semantic, asks):
    first, second = ask(semantic, asks, ASKED, LIKE)
    assert tiers(semantic, [first, second]) == ["none", "semantic"]
    told = semantic.result(second).answer.recall
    assert 0.7 <= told.similarity < 1
    assert (told.threshold, told.first_job) == (0.7, first)
    assert semantic.result(second).answer.text == semantic.result(first).answer.text


@pytest.mark.parametrize(
    ("first", "second", "guard"),
    [
        ("How many people live in 3 of the towns?", "How many people live in 4 of the towns?", "numbers"),
        ("Why is the mill open on Sunday now?", "Why is the mill not open on Sunday now?", "negation"),
    ],
)
def test_a_question_that_is_near_and_another_is_refused(semantic, asks, first, second, guard):
    jobs = ask(semantic, asks, first, second)
    told = semantic.result(jobs[1]).answer.recall
    assert (told.tier, told.similarity > 0.7) == ("none", True)
    assert guard in told.refused


def test_what_is_not_near_enough_says_how_near_it_was(semantic, asks):
    """And from where on it would have been."""
    _, second = ask(semantic, asks, ASKED, "How do I bake bread in my oven?")
    told = semantic.result(second).answer.recall
    assert told.similarity < told.threshold == 0.7
    assert "below 0.7" in told.refused


def test_a_guard_that_fails_is_a_miss(semantic, asks, monkeypatch):
    class Broken:
        name = "broken"

        def refuse(self, asked, cached):
            raise RuntimeError

    monkeypatch.setattr(guards, "GUARDS", (Broken(),))
    _, second = ask(semantic, asks, ASKED, LIKE)
    told = semantic.result(second).answer.recall
    assert (told.tier, told.refused) == ("none", "a guard: failed with RuntimeError")


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "other"},
        {"sampling": {"max_tokens": 9}},
        {"model": "echo2"},
        {"prompt": None, "messages": [{"role": "system", "content": "Rhyme."}, {"role": "user", "content": LIKE}]},
        {"knowledge": "docs"},
    ],
)
def test_likeness_ends_with_the_scope(semantic, asks, other):
    ask(semantic, asks, ASKED)
    jobs = [asks(**{"prompt": LIKE, "cache": "semantic", **more}) for more in ({}, other)]
    found = semantic.cache.look_up([Lookup("j", job, job.cache) for job in jobs])
    assert [lookup.decision for lookup in found] == ["hit", "miss"]
    assert found[1].similarity is None


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"sampling": {"temperature": 0.9}}, "temperature"),
        ({"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hi!"},
                       {"role": "user", "content": ASKED}]}, "conversation"),
        ({"prompt": ASKED + " Please." * 200}, "characters"),
        ({"prompt": " \n"}, "empty"),
    ],
)  # fmt: skip
def test_what_likeness_cannot_answer_is_not_looked_up_by_it(semantic, asks, more, why):
    fields = {"prompt": None if "messages" in more else ASKED, **more}
    jobs = semantic.send(asks(**fields, cache="semantic", idempotency_key="1"))
    semantic.drain()
    jobs += semantic.send(asks(**fields, cache="semantic", idempotency_key="2"))
    semantic.drain()
    assert why in semantic.result(jobs[0]).answer.recall.refused
    assert tiers(semantic, jobs) == ["none", "exact"]
    assert len(semantic.known) == 0


def test_without_an_embedder_the_receipt_says_what_to_do(flow, asks):
    (job,) = flow.send(asks(cache="semantic"))
    flow.drain()
    assert "headrace models pull" in flow.result(job).answer.recall.refused


def test_a_recalled_answer_is_dead_at_once_whatever_is_in_memory(semantic, asks):
    ask(semantic, asks, ASKED)
    with writing(semantic.ledger.engine) as tx:
        kill(tx, [row.id for row in semantic.ledger.read(select(ENTRIES.c.id))], "wrong")
    assert len(semantic.known) == 1
    (second,) = semantic.send(asks(LIKE, cache="semantic"))
    semantic.drain()
    assert tiers(semantic, [second]) == ["none"]
    semantic.follower.once()
    assert len(semantic.known) == 1  # the new one


def test_a_worker_that_starts_knows_what_is_there(semantic, asks):
    ask(semantic, asks, ASKED, "How do I bake bread in my oven?")
    known = Known(64)
    follower = Follower(Questions(semantic.ledger, known), Progress().loop("follow"))
    follower.once()
    assert len(known) == 2
    ask(semantic, asks, "Where does the river rise in spring?")
    assert follower.once() > 0
    assert len(known) == 3


ONES, NOT_A_NUMBER = np.ones(64, np.float32), np.full(64, np.nan, np.float32)


@pytest.mark.parametrize(
    "vector", [b"", b"abc", ONES.tobytes(), NOT_A_NUMBER.tobytes(), np.eye(1, 32, dtype=np.float32).tobytes()]
)
def test_a_vector_that_cannot_be_one_of_ours_holds_up_nothing(semantic, asks, vector):
    ask(semantic, asks, "How do I bake bread in my oven?")
    with writing(semantic.ledger.engine) as tx:
        tx.execute(update(ENTRIES).values(vector=vector))
    known = Known(64)
    Follower(Questions(semantic.ledger, known), Progress().loop("follow")).once()
    assert len(known) == 0
    ask(semantic, asks, ASKED)
    Follower(Questions(semantic.ledger, known), Progress().loop("follow")).once()
    assert len(known) == 1


@pytest.mark.parametrize(("wording", "queries"), [("How do I reset my account's password in {}?", 3), (IN, 1)])
def test_a_group_asks_the_ledger_no_oftener_than_one_job(semantic, asks, monkeypatch, wording, queries):
    places = ("Lisbon", "Oslo", "Vienna", "Rome")
    ask(semantic, asks, *(IN.format(place) for place in places))
    asked, rows_of = [], entries.rows_of
    monkeypatch.setattr(entries, "rows_of", lambda *query: asked.append(query[1]) or rows_of(*query))
    group = [asks(wording.format(place), cache="semantic", idempotency_key=place) for place in places]
    found = semantic.cache.look_up([Lookup(job.idempotency_key, job, job.cache) for job in group])
    assert [item.decision for item in found] == ["hit"] * len(places)
    assert len(asked) == queries
