"""A verifier in place of the rules of `grounded`: here, or in the stage of its model, from which the job comes back."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from tests.workers.features.judging.judge_model import JudgeModel, Prompt
from tests.workers.features.judging.test_ground import SAID, evaluated, score
from tests.workers.features.judging.test_judge import ACCEPTED

from headrace_schemas import HeadraceError, Score
from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.outcome import Done
from headrace_workers.core.pipeline.stage import ReadBytes
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.judging.ground_step import ClaimVerifier, ground_answers
from headrace_workers.features.judging.stage import stages
from headrace_workers.models.embedders.hashed import HashEmbedder
from headrace_workers.models.verifiers.verifier import TextPair, Verdict
from headrace_workers.models.verifiers.verify_stage import ModelVerifier, verify

GIVEN = "The mill opens at 9. Entry is free."  # by the rules it does not say when it closes


def model(*, supported: str, error: HeadraceError | None = None) -> JudgeModel:
    def answer(prompt: Prompt, _choices: Sequence[str]) -> tuple[float, ...] | HeadraceError:
        time.sleep(0.001)  # no machine is so fast that it takes no time
        claim = prompt[-1].content.split("<claim>")[1].split("</claim>")[0]
        return error or ((0.9, 0.0, 0.1, 0.0) if supported in claim else (0.1, 0.0, 0.7, 0.0))

    return JudgeModel(answer)


def here(verifier: Any, task: Task, most_seconds: float = 60.0) -> Score:
    (outcome,) = ground_answers(
        [task], embedder=HashEmbedder, claim_verifier=ClaimVerifier("judge", verifier, most_seconds)
    )
    return score(task, outcome)


def in_a_stage(judge: JudgeModel, task: Task, holds: Callable[[str], bool] = lambda _: True) -> Score:
    """The score by a model in a stage of its own."""
    asks = ClaimVerifier("judge", holds=holds)
    (outcome,) = ground_answers([task], embedder=HashEmbedder, claim_verifier=asks)
    assert isinstance(outcome, Done)
    if outcome.to is None:
        return score(task, outcome)
    assert outcome.to == "verify_claims"
    (answered,) = verify([on(task, outcome)], generator=judge, back="ground", most_seconds=60.0)
    assert isinstance(answered, Done)
    assert answered.to == "ground"
    task = on(on(task, outcome), answered)
    (back,) = ground_answers([task], embedder=HashEmbedder, claim_verifier=asks)
    assert isinstance(back, Done)
    kept = on(task, back).context
    assert {name: kept[name] for name in ("to_verify", "verified", "looked_up")} == dict.fromkeys(
        ("to_verify", "verified", "looked_up")
    )
    return score(task, back)


def on(task: Task, outcome: Done) -> Task:
    return Task(task.job_id, task.job, task.event, ACCEPTED, context={**task.context, **outcome.context})


@pytest.mark.parametrize("ask", [lambda judge, task: here(ModelVerifier(judge), task), in_a_stage])
def test_the_verdicts_replace_the_rules(ask: Callable[[JudgeModel, Task], Score]) -> None:
    found = ask(model(supported="17"), evaluated(context=GIVEN))
    assert found.unsupported is not None
    assert [(unsupported.start, unsupported.checked, unsupported.support) for unsupported in found.unsupported] == [
        (0, True, 0.125)
    ]
    assert (found.value, found.note) == (0.5, "judge verified every sentence")
    assert found.verified is not None
    assert (found.verified.model, found.verified.provider, found.verified.sentences) == ("judge", None, 2)
    assert found.verified.ms > 0


@pytest.mark.parametrize("ask", [lambda judge, task: here(ModelVerifier(judge), task), in_a_stage])
def test_the_rules_stand_where_the_verifier_fails(ask: Callable[[JudgeModel, Task], Score]) -> None:
    found = ask(model(supported="", error=Unavailable("it is away")), evaluated(context=GIVEN))
    assert found.unsupported is not None
    assert [(unsupported.start, unsupported.checked) for unsupported in found.unsupported] == [(15, True)]
    assert found.note is not None
    assert found.note.startswith("judge verified 0 of 2 sentences (it is away); of the others not checked: denials")


@pytest.mark.parametrize("hints", [False, True])
def test_hints_of_the_rules_are_listed_where_a_criterion_asks_for_them(hints: bool) -> None:
    task = evaluated("The mill is not open on Monday.", hints=hints, context="The mill is open on Monday.")
    found = in_a_stage(model(supported="", error=Unavailable("it is away")), task)
    assert [unsupported.checked for unsupported in found.unsupported or ()] == [False] * hints


def test_a_verifier_that_no_worker_holds_is_not_waited_for() -> None:
    judge = model(supported="17")
    found = in_a_stage(judge, evaluated(context=GIVEN), holds=lambda _: False)
    assert (judge.calls, found.value) == ([], 0.5)
    assert "no worker holds judge" in (found.note or "")


def test_a_verifier_that_is_too_slow_has_given_no_verdict() -> None:
    judge = model(supported="17")
    found = here(ModelVerifier(judge), evaluated(context=GIVEN), most_seconds=0.0)
    assert judge.calls == []
    assert "may take 0 s" in (found.note or "")


def test_a_verifier_reads_what_is_nearest_and_what_stands_before_it() -> None:
    asked: list[TextPair] = []

    class Yes:
        name, provider = "yes", None

        def verify(self, pairs: Sequence[TextPair]) -> list[Verdict | HeadraceError]:
            asked.extend(pairs)
            return [Verdict(1.0, None, 1.0) for _ in pairs]

    many = " ".join(
        f"The shop {name} sells {name} things." for name in ("Ann", "Bea", "Cid", "Dot", "Eve", "Flo", "Gus")
    )
    here(Yes(), evaluated(output="Entry is free.", context=f"{many} The mill opens at 9. Entry is free."))
    (pair,) = asked
    assert "The mill opens at 9. Entry is free." in pair.first
    assert len(pair.first.split(". ")) <= 6
    assert pair.tenant == evaluated(context=GIVEN).job.tenant


def test_a_wrong_citation_stays_wrong() -> None:
    from headrace_workers.features.judging.groundedness.ground import ground, verified

    groundedness = ground("The mill opens at 9 [4].", [GIVEN], HashEmbedder(), numbered=True, most_claims=9)
    assert [unsupported.reason for unsupported in verified(groundedness, [Verdict(1.0, None, 1.0)]).unsupported] == [
        "it cites a passage that does not exist: [4]"
    ]


def test_only_a_deployment_whose_verifier_is_a_model_has_the_stage() -> None:
    job = evaluated(context=GIVEN).job
    (stage,) = (item for item in stages("judge") if item.name == "verify_claims")
    assert stage.model("", job, None) == "judge"
    assert stage.most_tokens(job, ReadBytes(1_000)) > 40_000
    assert "verify_claims" not in {item.name for item in stages()}
    assert SAID
