"""A system prompt that is marked, from the model to the receipt."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.workers.changed_settings import changed
from tests.workers.core.ledger.test_work import settings
from tests.workers.features.generation.test_stage import Model, completion, task

from headrace_schemas import GenerationJob, Message, Moderated, Output
from headrace_schemas.codec import encode_value
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.moderation import Action
from headrace_workers.core.ledger.outcome import Done, Held
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.tables import RELEASED
from headrace_workers.features.generation.stage import generate
from headrace_workers.features.moderation.deployed_policy import canaries_of, policy_here
from headrace_workers.features.moderation.leak import Canaries
from headrace_workers.features.moderation.moderator import PolicyModerator
from headrace_workers.features.moderation.policy import Policy, Rule
from headrace_workers.features.moderation.settings import ModerationSettings
from headrace_workers.features.moderation.step import moderate
from headrace_workers.features.webhooks.settings import SealingSettings
from headrace_workers.runtime.settings import Settings
from headrace_workers.wiring.parts import pipeline_of

SYSTEM = Message(role="system", content="You are the clerk of a mill.")
JOB = GenerationJob(model="m", messages=(SYSTEM, Message(role="user", content="What are you?")), tenant="shop")
CANARIES = Canaries([b"k" * 32], lambda tenant: tenant == "shop")


def leaks(job: GenerationJob = JOB) -> tuple[Task, str]:
    """What stands before moderation when a model repeats all that it was told, and what that is."""
    model = Model(completion())
    generate([task(job)], generator=model, shown=CANARIES.shown)  # type: ignore[arg-type]
    ((request,),) = model.calls
    told = request.messages[0].content
    (done,) = generate([task(job)], generator=Model(completion(told)), shown=CANARIES.shown)  # type: ignore[arg-type]
    assert isinstance(done, Done)
    assert isinstance(done.event, Output)
    return replace(task(job), event=done.event), told


def moderated(given: Task, action: Action) -> Done | Held:
    moderator = PolicyModerator([], Policy({"system_prompt_leak": Rule(action)}, canary=True))
    (outcome,) = moderate([given], moderator=moderator, canaries=CANARIES)
    assert isinstance(outcome, Done | Held)
    return outcome


def test_a_model_that_repeats_its_system_prompt_is_found_out() -> None:
    """The mark that it was shown is in no byte of what goes on, whatever the policy does with it."""
    given, told = leaks()
    assert told.startswith("You are the clerk of a mill.\n\nInternal mark")
    mark = told.rpartition(" ")[2]
    for action, done in (("block", "block"), ("redact", "redact"), ("allow", "redact")):
        outcome = moderated(given, action)  # type: ignore[arg-type]
        assert isinstance(outcome, Done)
        assert isinstance(outcome.event, Moderated)
        assert outcome.event.moderation.action == done
        assert outcome.event.moderation.categories == {"system_prompt_leak": True}
        assert mark.encode() not in encode_value(outcome.event)


def test_what_a_person_lets_pass_is_without_the_mark_as_well() -> None:
    """The receipt says that something was cut out."""
    given, told = leaks()
    assert isinstance(moderated(given, "review"), Held)
    outcome = moderated(replace(given, woken_by=RELEASED), "review")
    assert isinstance(outcome, Done)
    assert isinstance(outcome.event, Moderated)
    assert outcome.event.moderation.action == "redact"
    assert outcome.event.answer.text is not None
    assert outcome.event.answer.text.endswith("never to be said: [SYSTEM_PROMPT_LEAK]")
    assert told.rpartition(" ")[2].encode() not in encode_value(outcome.event)


def test_who_does_not_ask_for_it_is_shown_what_was_sent() -> None:
    """Nor is anything said of its answers."""
    given, told = leaks(JOB.model_copy(update={"tenant": "mill"}))
    assert told == SYSTEM.content
    outcome = moderated(given, "block")
    assert isinstance(outcome, Done)
    assert isinstance(outcome.event, Moderated)
    assert outcome.event.answer.text == told


def deployment(folder: Path, text: str, *keys: bytes) -> Settings:
    (folder / "policy.toml").write_text(text)
    policy = ModerationSettings(policy=folder / "policy.toml")
    return changed(settings(), policy, SealingSettings(webhook_key=keys))


@pytest.mark.parametrize("text", ["canary = true\n", "[tenants.shop]\ncanary = true\n"])
def test_a_policy_that_asks_for_marks_needs_a_key(tmp_path: Path, text: str) -> None:
    """What moderates, what counts and what asks models refuse it alike, and say how to make one."""
    given = deployment(tmp_path, text)
    for ask in (canaries_of, pipeline_of, lambda it: policy_here(it, tmp_path / "policy.toml")):
        with pytest.raises(ConfigurationError, match="HEADRACE_WEBHOOK_KEY, which is not set"):
            ask(given)
    keyed = deployment(tmp_path, text, b"k" * 32)
    assert canaries_of(keyed).shown("shop", JOB.messages) == CANARIES.shown("shop", JOB.messages)
    assert canaries_of(settings()).shown("shop", JOB.messages) == JOB.messages


def test_a_policy_decides_for_whose_jobs_several_answers_are_reserved(tmp_path: Path) -> None:
    """Those of tenants whose answers it has made again; the default policy has none made."""
    pipeline = pipeline_of(deployment(tmp_path, '[tenants.shop]\ncategories.email = "regenerate"\n'))
    costs = [pipeline.most_tokens(JOB.model_copy(update={"tenant": name}), 10) for name in ("shop", "mill")]
    assert (costs[0] > 30, costs[1]) == (True, 10)
    assert pipeline_of(settings()).most_tokens(JOB, 10) == 10


def test_a_policy_decides_who_is_screened(tmp_path: Path) -> None:
    """A deployment's pipeline follows its file."""
    pipeline = pipeline_of(deployment(tmp_path, "[tenants.shop]\nscreen = true\n"))
    stages = [pipeline.next_step("id", job, job) for job in (JOB, JOB.model_copy(update={"tenant": "mill"}))]
    assert [each.stage.name for each in stages if each] == ["screen", "generate"]
