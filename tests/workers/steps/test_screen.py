"""Prompts that are looked at before a model is run."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from tests.workers.steps.test_moderate import REVIEW, Scripted, says

from headrace_schemas import Category, Finding, GenerationJob, Message, ModerationJob, Result
from headrace_schemas.codec import encode_value
from headrace_schemas.errors import Unavailable
from headrace_workers.ledger.tables.core import RELEASED
from headrace_workers.steps.outcome import Dead, Done, Ended, Held
from headrace_workers.steps.passages import SCREENED
from headrace_workers.steps.screen import screen
from headrace_workers.steps.task import Task

GOES_ON = Done(context={SCREENED: True})  # what is added to the prompt later is screened as well
BLOCK = Finding(category="prompt_injection", detector="d", score=1.0, start=0, end=1, action="block")


def task(**fields: object) -> Task:
    job = GenerationJob.model_validate({"model": "m", "prompt": "hello", **fields})
    return Task(job_id="00000000-0000-0000-0000-000000000001", job=job, event=job, accepted_at=datetime.now(UTC))


def test_what_is_asked_is_what_the_user_says_in_all_turns() -> None:
    """Of each tenant by its policy. The system's words are the operator's."""
    turns = [("system", "be brief"), ("user", "one"), ("assistant", "no"), ("user", "two")]
    messages = tuple(Message(role=role, content=content) for role, content in turns)
    screener = Scripted(says("", (), "allow"), says("", (), "allow"))
    assert screen([task(prompt=None, messages=messages, tenant="shop"), task()], screener=screener) == [
        GOES_ON,
        GOES_ON,
    ]
    assert (screener.asked, screener.tenants) == (["one\n\ntwo", "hello"], ["shop", "default"])


def test_a_prompt_that_is_blocked_ends_its_job_with_a_refusal() -> None:
    """There is no answer, and the verdict says why; the prompt is not in it."""
    (outcome,) = screen(
        [task(prompt="my words", metadata={"a": "b"})], screener=Scripted(says(None, (BLOCK,), "block"))
    )
    assert isinstance(outcome, Ended)
    result = outcome.event
    assert isinstance(result, Result)
    assert (result.status, result.refusal, result.kind, result.answer) == (
        "blocked", "prompt_blocked", "generation", None,
    )  # fmt: skip
    assert result.moderation is not None
    assert (result.moderation.findings, result.metadata) == ((BLOCK,), {"a": "b"})
    assert b"my words" not in encode_value(result)


def test_a_prompt_that_is_to_be_reviewed_is_held() -> None:
    """Until a person has let it pass."""
    given = task()
    (held,) = screen([given], screener=Scripted(says("x", (REVIEW,), "review")))
    assert isinstance(held, Held)
    assert held.needs_person
    assert held.reason.startswith("the prompt: the moderation policy None wants a person to review: hate")
    released = replace(given, woken_by=RELEASED)
    assert screen([released], screener=Scripted(says("x", (REVIEW,), "review"))) == [GOES_ON]
    (outcome,) = screen([released], screener=Scripted(says(None, (REVIEW,), "block")))
    assert isinstance(outcome, Ended)


@pytest.mark.parametrize("action", ["allow", "redact"])
def test_every_other_prompt_goes_on_as_it_came(action) -> None:
    """Nothing is redacted in it, since it is the user's."""
    assert screen([task()], screener=Scripted(says("[EMAIL]", (), action))) == [GOES_ON]


def test_a_prompt_that_nobody_could_look_at_is_held() -> None:
    """It is passed to no model unscreened; the others of its group are decided."""
    screener = Scripted(Unavailable("down"), says("", (), "allow"))
    assert screen([task(), task()], screener=screener) == [Held("down", needs_person=False), GOES_ON]


def test_what_is_no_prompt_is_dead() -> None:
    """It does not shift its neighbours."""
    job = ModerationJob(input="x")
    outcomes = screen([replace(task(), job=job, event=job), task()], screener=Scripted(says("", (), "allow")))
    assert outcomes == [Dead(Category.PERMANENT, "screening takes generation jobs, not ModerationJob"), GOES_ON]
