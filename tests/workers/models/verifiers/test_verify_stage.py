"""Which deployments have a stage for their verifier, and what its step answers."""

import time
from typing import Any

import pytest
from tests.workers.features.judging.judge_model import JudgeModel
from tests.workers.features.judging.test_ground import evaluated
from tests.workers.features.judging.test_judge import ACCEPTED

from headrace_schemas import Usage
from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.outcome import Done
from headrace_workers.core.pipeline.stage import installed_stages
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.cache.settings import CacheSettings
from headrace_workers.features.judging.settings import JudgingSettings
from headrace_workers.models.generator import Completion, NoProbabilities
from headrace_workers.models.verifiers.verifier import Relation, TextPair, Verdict
from headrace_workers.models.verifiers.verify_stage import (
    ModelVerifier,
    asking,
    in_time,
    verification,
    verify,
)

PAIR = TextPair(Relation.SUPPORTED, "The mill opens at 9.", "It opens at 9.", "shop")


class Given:
    """Settings of a deployment: the defaults but for these groups."""

    def __init__(self, *groups: Any) -> None:
        self.groups = {type(group): group for group in groups}

    def of(self, kind: type[Any]) -> Any:
        return self.groups.get(kind) or kind.from_env({})


@pytest.mark.parametrize(
    ("group", "named"),
    [
        (CacheSettings(verify="judge"), {"verify_hit", "label"}),
        (JudgingSettings(grounded_verify="judge"), {"verify_claims"}),
        (CacheSettings(verify="sentence-transformers:some/nli"), set()),
        (JudgingSettings(grounded_verify="sentence-transformers:some/nli"), set()),
    ],
)
def test_a_deployment_whose_verifier_is_a_model_has_a_stage_for_it(group: Any, named: set[str]) -> None:
    stages = {stage.name for stage in installed_stages(Given(group))}
    assert stages - {stage.name for stage in installed_stages(Given())} == named


def answered(model: Any) -> Done:
    task = evaluated(context="The mill opens at 9.")
    context = asking([PAIR], "verify_claims", {}).context
    (outcome,) = verify(
        [Task(task.job_id, task.job, task.event, ACCEPTED, context=context)], generator=model, back="ground",
        most_seconds=60.0,
    )  # fmt: skip
    assert isinstance(outcome, Done)
    return outcome


class Written(JudgeModel):
    provider = "openai"

    def __init__(self, said: str | Unavailable, read: int = 9) -> None:
        super().__init__(lambda prompt, choices: (0.0,))
        self.said, self.read = said, read

    def label_probabilities(self, requests: Any) -> Any:
        raise NoProbabilities("none")

    def generate(self, requests: Any) -> Any:
        return [self.said if isinstance(self.said, Unavailable) else Completion(self.said, "stop", self.read, 1)]


def billed() -> Unavailable:
    """A failure for which a provider may want money."""
    error = Unavailable("cut")
    error.billed = True
    return error


@pytest.mark.parametrize(
    ("model", "usage"),
    [
        (Written("yes"), Usage(prompt_tokens=9, completion_tokens=1)),
        (Written("yes", read=0), None),
        (Written("perhaps"), None),
        (Written(billed()), None),
        (Written(Unavailable("it is away")), Usage(prompt_tokens=0, completion_tokens=0)),
    ],
)
def test_a_call_that_may_be_billed_is_charged_with_the_most(model: Any, usage: Usage | None) -> None:
    """Of one that was answered the tokens are known; one that never reached the provider costs nothing."""
    assert answered(model).usage == usage


def test_the_receipt_lists_the_provider_that_read_the_texts() -> None:
    outcome = answered(Written("no"))
    assert outcome.context["seen_by"] == ["openai"]
    said = verification(outcome.context)
    assert said is not None
    assert (said.model, said.provider, [isinstance(verdict, Verdict) for verdict in said.verdicts]) == (
        "judge",
        "openai",
        [True],
    )


def test_no_call_begins_behind_the_time() -> None:
    judge = JudgeModel(lambda prompt, choices: (0.9, 0.0, 0.1, 0.0))
    found = in_time(ModelVerifier(judge), [PAIR] * 20, time.monotonic() - 1, 5.0)
    assert (len(found), judge.calls) == (20, [])
    assert not any(getattr(verdict, "billed", True) for verdict in found)
