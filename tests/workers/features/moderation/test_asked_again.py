"""Answers that may not be shown, where the policy has the model asked again: a job's whole way, and its receipt."""

from typing import Any

import pytest
from tests.workers.features.judging.test_floor import Scripted, Way, job

from headrace_schemas import Contains, GenerationJob, HeadraceError, ModerationJob, Result
from headrace_schemas.errors import PromptTooLong, Unavailable
from headrace_workers.core.ledger.outcome import Done, Ended, Retry
from headrace_workers.core.pipeline.settle import task_of
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.cache.step import CONTEXT, GIVEN
from headrace_workers.features.moderation.asked_again import MOST
from headrace_workers.features.moderation.moderator import PolicyModerator
from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.moderation.policy import Policy, Rule
from headrace_workers.features.moderation.step import moderate

ASKED = "Who is it?"
BAD, WORSE, GOOD = "Write to ann@headrace.io.", "Card 4111 1111 1111 1111, ann@headrace.io.", "I may not say."
RULES = {name: Rule("allow") for name in PersonalDataDetector.categories}
AGAIN = Policy(RULES | {"email": Rule("block", again=True), "card": Rule("block")})


class Watched(Way):
    def __init__(self, asked: GenerationJob, model: Scripted, policy: Policy = AGAIN) -> None:
        super().__init__(asked, model)
        moderator = PolicyModerator([PersonalDataDetector()], policy)
        self.steps["moderate"] = lambda tasks: moderate(tasks, moderator=moderator)


def plain() -> GenerationJob:
    """A job that asks for nothing else."""
    return GenerationJob(model="echo", prompt=ASKED, tenant="shop")


def ended(*answers: str | HeadraceError, policy: Policy = AGAIN) -> tuple[Result, Scripted, Watched]:
    model = Scripted(*answers)
    way = Watched(plain(), model, policy)
    return way.end(), model, way


def test_an_answer_that_may_not_be_shown_is_made_again() -> None:
    result, model, way = ended(BAD, GOOD)
    assert result.answer is not None
    assert (result.status, result.answer.text, result.moderation.action) == ("completed", GOOD, "allow")  # type: ignore[union-attr]
    assert (result.answer.usage.prompt_tokens, result.answer.usage.completion_tokens) == (20, 7)
    assert [stage.stage for stage in result.stages] == ["generate", "moderate"] * 2 + ["judge"]
    first, second = ([(message.role, message.content) for message in request.messages] for request in model.asked)
    assert first == [("user", ASKED)]
    assert second[:2] == [("user", ASKED), ("assistant", BAD)]
    assert second[2][0] == "user"
    assert second[2][1].startswith("That answer cannot be shown. What is in it that may not be: personal data.")
    assert len(way.ids) == len(set(way.ids)) == 3  # two outputs, and what was moderated


def test_after_so_many_tries_it_is_withheld() -> None:
    result, model, _ = ended(*[BAD] * (1 + MOST))
    assert result.answer is not None
    assert (result.status, result.answer.text, result.moderation.action) == ("blocked", None, "block")  # type: ignore[union-attr]
    assert result.answer.usage.completion_tokens == 3 * (1 + MOST)
    assert model.answers == []


@pytest.mark.parametrize(
    ("answer", "policy"),
    [(WORSE, AGAIN), (BAD, Policy(RULES | {"email": Rule("block")}))],
    ids=["something else in it is blocked", "the policy does not want it"],
)
def test_what_is_blocked_anyhow_is_withheld_at_once(answer: str, policy: Policy) -> None:
    result, model, _ = ended(answer, GOOD, policy=policy)
    assert (result.status, len(model.answers)) == ("blocked", 1)


def test_a_model_that_cannot_answer_again_leaves_it_withheld() -> None:
    result, _, _ = ended(BAD, PromptTooLong("9 tokens"))
    assert result.answer is not None
    assert (result.status, result.answer.usage.completion_tokens) == ("blocked", 3)
    way = Watched(plain(), Scripted(BAD, Unavailable("away"), Unavailable("away")))
    assert isinstance(way.until_it_stays().outcome, Retry)
    assert way.end(attempts=3).status == "blocked"


def test_a_floor_comes_behind_it() -> None:
    model = Scripted(BAD, GOOD, BAD, "It lacked water.")
    way = Watched(job(Contains(text="water"), attempts=3), model)
    result = way.end()
    assert result.answer is not None
    assert (result.status, result.answer.text) == ("completed", "It lacked water.")
    assert result.answer.usage.completion_tokens == 3 + 4 + 3 + 3
    told = [[message.content[:30] for message in request.messages[1:]] for request in model.asked]
    assert [len(group) for group in told] == [0, 2, 2, 4]
    assert told[2][0] == GOOD
    assert [text[:11] for text in told[3]] == [GOOD[:11], "That answer", BAD[:11], "That answer"]


def test_of_a_text_that_is_brought_it_is_only_said() -> None:
    moderator = PolicyModerator([PersonalDataDetector()], AGAIN)
    brought = ModerationJob(input=BAD)
    way = Watched(plain(), Scripted(BAD))
    way.once()
    served: Any = task_of(way.row)
    tasks = [
        Task(served.job_id, brought, brought, served.accepted_at),
        Task(served.job_id, served.job, served.event, served.accepted_at, context={CONTEXT: {GIVEN: 7}}),
    ]
    said, withheld = moderate(tasks, moderator=moderator)
    assert isinstance(said, Ended)
    assert said.event.moderation.action == "block"  # type: ignore[union-attr]
    assert isinstance(withheld, Done)
    assert withheld.to is None
    assert withheld.event.answer.text is None  # type: ignore[union-attr]
