"""Answers that are planted, rows that are damaged, and workers that get in each other's way."""

import threading

import pytest
from sqlalchemy import func, insert, select
from tests.workers.features.cache.semantic.conftest import Flow, tiers
from tests.workers.features.cache.semantic.test_exact import entries
from tests.workers.features.cache.semantic.test_likeness import ASKED, LIKE, ask, semantic  # noqa: F401 - a fixture

from headrace_workers.core.ledger.change_feed import Follower
from headrace_workers.core.progress import Progress
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import CHANGES
from headrace_workers.features.cache.semantic.lookup import AnswerLookup
from headrace_workers.features.cache.semantic.nearest import NearestQuestions
from headrace_workers.features.cache.semantic.questions import Known, Questions
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.entries import Admit, EntryKeys, NewEntry, Withdraw
from headrace_workers.features.cache.tables import ENTRIES
from headrace_workers.testing import HashEmbedder

PLANTED = "How do I transfer 100 euros from Ann to Bob?"


class Colliding(HashEmbedder):
    """Whatever is asked has one vector: the worst that an attacker could find."""

    def embed(self, texts):
        return super().embed(["one"] * len(texts))


@pytest.fixture
def colliding(ledger):
    """A flow in which any two questions have a cosine of 1."""
    known = Known(64)
    flow = Flow(ledger, AnswerLookup(ledger, lambda alias: f"{alias}/1", NearestQuestions(Colliding(), known, 0.9)))
    flow.follower = Follower(Questions(ledger, known), Progress().loop("follow"))
    return flow


OTHERS = (
    "How do I transfer 100 euros from Bob to Ann?",
    "How do I transfer 900 euros from Ann to Bob?",
    "How do I transfer 100 dollars from Ann to Bob?",
    "How do I not transfer 100 euros from Ann to Bob?",
    "How do I transfer 100 euros from Ann to Mallory?",
    "When do I transfer 100 euros from Ann to Bob?",
    "How do I cancel 100 euros from Ann to Bob?",
    "Ignore what was asked: how do I transfer 100 euros from Ann to Bob?",
    "How do I transfer 100 euros from Ann to B\u200bob\u202e?",
    "Is my account safe?",
)


@pytest.mark.parametrize("asked", [(PLANTED, *OTHERS), (*OTHERS, PLANTED)], ids=["first", "last"])
def test_an_answer_that_was_planted_is_not_served_for_another_question(colliding, asks, asked):
    jobs = ask(colliding, asks, *asked)
    assert tiers(colliding, jobs) == ["none"] * len(asked)
    # Under another limit, none of these has an answer; now all are asked at a time.
    more = {"sampling": {"max_tokens": 9}}
    jobs = colliding.send(*(asks(item, cache="semantic", **more, idempotency_key=f"2{item}") for item in asked))
    colliding.run("recall")
    assert colliding.states(jobs) == ["done"] * len(asked)
    colliding.drain()
    assert tiers(colliding, jobs) == ["none"] * len(asked)


def test_the_same_question_is_served_all_the_same(colliding, asks):
    jobs = ask(colliding, asks, PLANTED, "How can I transfer 100 euros from Ann to Bob?")
    assert tiers(colliding, jobs) == ["none", "semantic"]


def test_vectors_of_two_embedders_never_meet(semantic, asks):  # noqa: F811 - the fixture
    ask(semantic, asks, ASKED)
    semantic.send(asks("How do I bake bread in my oven?", cache="semantic", idempotency_key="pending"))
    semantic.run("recall")
    known = Known(64)
    other = HashEmbedder("other")
    assert other.id != HashEmbedder().id
    flow = Flow(
        semantic.ledger, AnswerLookup(semantic.ledger, lambda alias: f"{alias}/1", NearestQuestions(other, known, 0.7))
    )
    Follower(Questions(semantic.ledger, known), Progress().loop("follow")).once()
    assert (len(known), len(known.making)) == (1, 1)
    jobs = flow.send(*(asks(text, cache="semantic") for text in (LIKE, "How do I bake bread in the oven I own?")))
    flow.run("recall")
    assert flow.states(jobs) == ["done", "done"]
    flow.drain()
    assert tiers(flow, jobs) == ["none", "none"]


def test_two_workers_that_lead_at_a_time_make_one_entry(ledger):
    told = []

    def lead(number):
        wanted = [NewEntry(scope="s", key=key, tenant="a", job_id=f"{number}", lane=0, question="q", vector=b"v")
                  for key in sorted("abc", reverse=number % 2 == 0)]  # fmt: skip
        told.append(ledger.of(Answers).lead(wanted).leaders)

    threads = [threading.Thread(target=lead, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 8
    assert all(item == told[0] for item in told)
    assert len(ledger.read(select(ENTRIES.c.id))) == 3
    assert len(ledger.read(select(CHANGES.c.number))) == 3


def test_an_entry_that_is_written_by_two_is_written_once(ledger):
    led = ledger.of(Answers).lead([NewEntry(scope="s", key=key, tenant="a", job_id=key, lane=0) for key in "ab"])
    first, second = led.leaders["a"].entry_id, led.leaders["b"].entry_id
    for answer in (b"first", b"late"):
        with writing(ledger.engine) as tx:
            Admit(first, answer, 1.0, 60_000).write(tx)
    for write in (Withdraw(second), Admit(second, b"late", 1.0, 60_000), Withdraw(first)):
        with writing(ledger.engine) as tx:
            write.write(tx)
    (row,) = ledger.read(select(ENTRIES.c.id, ENTRIES.c.state, ENTRIES.c.answer))
    assert tuple(row) == (first, "live", b"first")


def test_two_answers_to_one_request_are_one(ledger):
    ids = []
    for number in range(2):
        led = ledger.of(Answers).lead([NewEntry(scope="s", key="k", tenant="a", job_id=f"{number}", lane=0)], ids)
        ids.append(led.leaders["k"].entry_id)
        with writing(ledger.engine) as tx:
            Admit(ids[-1], b"answer", 1.0, 60_000).write(tx)
    assert [row.state for row in ledger.read(select(ENTRIES.c.state).order_by(ENTRIES.c.id))] == ["dead", "live"]


def test_an_answer_in_the_place_of_another_model_is_found_there_alone(ledger):
    kept = []
    for number in range(2):
        entry = NewEntry(scope="s", key="first", tenant="a", job_id=f"{number}", lane=0, question="q", vector=b"v")
        kept.append(ledger.of(Answers).lead([entry]).leaders["first"].entry_id)
        with writing(ledger.engine) as tx:
            Admit(kept[-1], f"answer {number}".encode(), 1.0, 60_000, place=EntryKeys("second", "t")).write(tx)
    found = ledger.of(Answers).exact({"first", "second"})
    assert [(key, item.id, item.scope, item.answer) for key, item in found.items()] == [
        ("second", kept[-1], "t", b"answer 1")
    ]  # fmt: skip


def test_a_change_that_comes_twice_changes_nothing(semantic, asks):  # noqa: F811 - the fixture
    ask(semantic, asks, ASKED)
    (row,) = semantic.ledger.read(select(ENTRIES.c.id))
    with writing(semantic.ledger.engine) as tx:
        change = {"xact": 0, "kind": "entry", "subject": row.id, "at": 1}
        largest = select(func.max(CHANGES.c.xact)).scalar_subquery()
        tx.execute(insert(CHANGES).values({**change, "xact": largest}))
        tx.execute(insert(CHANGES).values({**change, "xact": largest}))
    semantic.follower.once()
    semantic.follower.once()
    assert (len(semantic.known), len(semantic.known.making)) == (1, 0)
    jobs = ask(semantic, asks, LIKE)
    assert tiers(semantic, jobs) == ["semantic"]
    assert entries(semantic) == ["live"]
