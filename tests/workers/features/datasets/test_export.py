"""`headrace dataset export`: which answers become examples, how they are divided, and what the folder says of them."""

import hashlib
from uuid import uuid4

import pytest
from tests.services.tables import sqlite_tables
from tests.workers.core.ledger.rows import job
from tests.workers.features.reviews.review_rows import ALLOWED, ANN, BOB, LEASE, answer, ended, good, held

from headrace_schemas import GenerationJob, JudgeVerdict, ModerationVerdict, Result, Score
from headrace_schemas.application import ApplicationVersion, Resolution
from headrace_schemas.codec import encode_value
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.event_types import type_of
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.datasets.clean import Rules
from headrace_workers.features.datasets.duplicates import evaluation_sets
from headrace_workers.features.datasets.examples import Example, Examples, NoExample, ScoreFilter, Selection
from headrace_workers.features.datasets.export import split_examples
from headrace_workers.features.moderation.moderator import build_moderator
from headrace_workers.features.reviews.decision import Decision
from headrace_workers.features.reviews.store import Reviews

TRIAGE = Resolution(application=ApplicationVersion(name="triage", version=3, digest="0" * 64), turns=1)
A = Selection(tenant="a")
RULES = Rules(moderator=build_moderator(None), tests=evaluation_sets([]))


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger.at(sqlite_tables(tmp_path / "ledger.db"))
    yield ledger
    ledger.close()


def asked(prompt="How do I reach you?", **fields):
    return GenerationJob(model="m", prompt=prompt, tenant="a", resolution=TRIAGE, **fields)


def decide(ledger, person, item, decision):
    reviews = ledger.of(Reviews)
    given = reviews.next(person, LEASE)
    assert given.row.id == item
    reviews.decide(person, item, decision.model_copy(update={"lease": given.lease}))


def answered(ledger, number=1, model="large", score=0.9, verdict=ALLOWED, tenant="a", at=200, **fields):
    """A job that a model answered, and a judge scored; its id."""
    job_id, request = str(uuid4()), asked(f"What is the colour of house number {number}?", **fields)
    said = answer(f"House number {number} is green.").model_copy(update={"model": model})
    judged = JudgeVerdict(scores=(Score(criterion="rubric", name="right", value=score),))
    end = Result(
        job_id=job_id, tenant=tenant, status="completed", kind="generation", answer=said, moderation=verdict,
        judge=judged, accepted_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
    job(
        ledger, job_id, "done", tenant, payload=encode_value(request), ended_at=at, terminal_type=type_of(end),
        terminal=encode_value(end), application="triage@3",
    )  # fmt: skip
    return job_id


def test_people_make_examples(ledger):
    """Approved and corrected answers are examples. Only a person's newest revision counts; one objection is enough."""
    fine, item = ended(ledger, asked("Is the mill open?"))
    decide(ledger, ANN, item, good())
    poor, item = ended(ledger, asked("Is the mill old?"))
    decide(ledger, ANN, item, good())
    ledger.of(Reviews).decide(ANN, item, good(value=0.0, revision=2))
    undone, item = ended(ledger, asked("Is the mill tall?"), wanted=2)
    decide(ledger, ANN, item, good())
    ledger.of(Reviews).undo(ANN, item)
    decide(ledger, BOB, item, good())
    wrong, item = held(ledger, asked("Is the mill blue?"))
    decide(ledger, BOB, item, Decision(action="correct", corrected="It is red."))
    refused, item = held(ledger, asked("Is the mill near?"))
    decide(ledger, BOB, item, Decision(action="withhold"))
    found = {row.job_id: row for row in ledger.of(Examples).of(A)}
    assert set(found) == {fine, undone, wrong}
    assert found[undone].people == ("bob",)
    assert (found[wrong].source, found[wrong].answer, found[wrong].people) == ("corrected", "It is red.", ("bob",))
    assert found[fine].messages == ({"role": "user", "content": "Is the mill open?"},)
    assert found[fine].application == "triage@3"
    assert [row.job_id for row in ledger.of(Examples).of(Selection(tenant="a", approved=False))] == [wrong]
    assert [row.job_id for row in ledger.of(Examples).of(Selection(tenant="a", application="triage@2"))] == []
    assert [row.job_id for row in ledger.of(Examples).of(Selection(tenant="b"))] == []
    better = Selection(tenant="a", corrected=False, scores=(ScoreFilter.parse("good > 0.99"),))
    assert sorted(row.job_id for row in ledger.of(Examples).of(better)) == sorted([fine, undone])
    assert poor != refused


def test_accepted_answers_of_a_model_make_examples(ledger):
    one = answered(ledger, 1)
    answered(ledger, 2, model="small")
    answered(ledger, 3, score=0.5)
    answered(ledger, 4, tenant="b")
    answered(ledger, 5, metadata={"evaluation": "e"})
    redacted = answered(ledger, 6, verdict=ModerationVerdict(action="redact"))
    wanted = Selection(
        tenant="a", application="triage", scores=(ScoreFilter.parse("right >= 0.8"),), teacher="large"
    )  # fmt: skip
    found = {row.job_id: row for row in ledger.of(Examples).of(wanted)}
    assert set(found) == {one, redacted}
    assert found[redacted] == NoExample(redacted, "moderation: redact")
    assert (found[one].answer, found[one].source) == ("House number 1 is green.", "answers")


def test_a_long_ledger_is_read_to_its_end(ledger, monkeypatch):
    """Several jobs may have ended in the same millisecond, where a page of rows ends."""
    monkeypatch.setattr("headrace_workers.features.datasets.examples.AT_ONCE", 2)
    jobs = [answered(ledger, number, at=200 + number // 3) for number in range(7)]
    items = [ended(ledger, asked(f"Is mill {number} open?")) for number in range(5)]
    for _ in items:
        given = ledger.of(Reviews).next(ANN, LEASE)
        ledger.of(Reviews).decide(ANN, given.row.id, good(lease=given.lease))
    found = ledger.of(Examples).of(Selection(tenant="a", teacher="large"))
    assert sorted(item.job_id for item in found) == sorted(jobs)
    assert len(list(ledger.of(Examples).of(A))) == len(items)


@pytest.mark.parametrize("text", ["right", "right >= x", "right => 1", ">= 1", "a b >= 1"])
def test_a_condition_that_says_nothing_is_refused(text):
    with pytest.raises(ConfigurationError, match="write a criterion"):
        ScoreFilter.parse(text)


def example(number, question, said="That is a matter of taste, and of the day."):
    template = "You answer questions of visitors of our mill in one short sentence, and you are always polite to them."
    messages = ({"role": "system", "content": template}, {"role": "user", "content": question})
    return Example(messages, f"{said} {number}", "answers", f"job-{number:04}", "large", "triage@3")


def questions(count):
    """Questions that have no run of five words in common."""
    words = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]
    return [" ".join(f"w{word[at : at + 6]}" for at in range(0, 60, 6)) for word in words]


def test_questions_that_are_alike_stand_on_one_side():
    """For each seed; a template that all have in common makes nothing alike."""
    asking = [variant for question in questions(40) for variant in (f"{question} today", f"{question} tomorrow")]
    found = [example(number, question) for number, question in enumerate(asking)]
    sides = set()
    for seed in range(5):
        split = split_examples(found, RULES, near=0, held_out=0.25, seed=seed)
        assert (split.groups, len(split.train), len(split.held_out)) == (40, 60, 20)
        pairs = {int(row.job_id[4:]) // 2 for row in split.held_out}
        assert len(pairs) == 10
        sides.add(frozenset(pairs))
    assert len(sides) == 5
    again = split_examples(reversed(found), RULES, near=0, held_out=0.25, seed=4)
    assert {row.job_id for row in again.held_out} == {row.job_id for row in split.held_out}


def test_near_duplicates_are_removed_with_their_reason():
    one, *others = questions(20)
    found = [example(0, one), example(1, one), *(example(number, item) for number, item in enumerate(others, 2))]
    split = split_examples(found, RULES, near=0.7, held_out=0.1, seed=0)
    ((rule, job_id, reason),) = split.removed
    assert (rule, job_id) == ("near duplicate", "job-0001")
    assert reason.endswith("like job job-0000")
