from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.workers.features.judging.judge_model import JudgeModel, Probabilities, Prompt, uniform

from headrace_schemas import (
    Answer,
    Contains,
    EvaluationJob,
    ExactMatch,
    Finding,
    GenerationJob,
    Moderated,
    ModerationVerdict,
    NotJudged,
    Output,
    Pairwise,
    Result,
    Rubric,
    Usage,
)
from headrace_schemas.criteria import Uncertain
from headrace_schemas.errors import PromptTooLong, Unavailable
from headrace_workers.core.ledger.outcome import Dead, Done, Ended, Outcome, ProviderBusy, Retry, Wait
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.judging.parts import parts
from headrace_workers.features.judging.stage import judge
from headrace_workers.models.verifiers.measured import note_probe
from headrace_workers.runtime.embedded.stack import Addresses
from headrace_workers.runtime.settings import Settings

JOB_ID = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"
ACCEPTED = datetime(2026, 1, 1, tzinfo=UTC)
EMAIL = Finding(category="email", detector="personal_data", score=1, start=6, end=13, action="redact")
KIND = Rubric(question="Is it kind?")


def generation(*criteria: object, **fields: object) -> GenerationJob:
    return GenerationJob.model_validate(
        {"model": "asked", "prompt": "Who?", "tenant": "shop", "criteria": criteria, **fields}
    )


def answer(text: str | None) -> Answer:
    usage = Usage(prompt_tokens=7, completion_tokens=2)
    return Answer(text=text, finish_reason="stop", model="small", quantization="int8", usage=usage)


def moderated_task(
    job: GenerationJob, text: str | None = "Write [EMAIL]", action: str = "redact", finding: Finding = EMAIL
) -> Task:
    event = Moderated.model_validate(
        {
            "job_id": JOB_ID,
            "tenant": "shop",
            "answer": answer(text),
            "moderation": ModerationVerdict.model_validate({"action": action, "findings": (finding,)}),
        }
    )
    return Task(JOB_ID, job, event, ACCEPTED)


def receipt(outcome: Outcome) -> Result:
    assert isinstance(outcome, Ended)
    assert isinstance(outcome.event, Result)
    return outcome.event


def test_the_receipt_of_a_generation() -> None:
    job = generation(Contains(text="email"), ExactMatch(), idempotency_key="k", metadata={"order": "7"})
    (outcome,) = judge([moderated_task(job)], generator=None)
    result = receipt(outcome)
    assert (result.status, result.kind, result.tenant, result.job_id) == ("completed", "generation", "shop", JOB_ID)
    assert (result.idempotency_key, result.metadata) == ("k", {"order": "7"})
    assert result.answer == answer("Write [EMAIL]")
    assert result.moderation == ModerationVerdict(action="redact", findings=(EMAIL,))
    assert (result.accepted_at, result.total_ms) == (ACCEPTED, 0.0)
    assert [score.value for score in result.judge.scores] == [1.0, None]


def test_the_judge_sees_the_moderated_text_the_question_and_the_reference() -> None:
    model = JudgeModel(uniform)
    judge([moderated_task(generation(KIND, reference="Someone."))], generator=model)
    ((prompts, _),) = model.calls
    whole = prompts[0][-1].content
    for part in ("Write [EMAIL]", "Who?", "Someone.", "Is it kind?"):
        assert part in whole


def test_a_blocked_output() -> None:
    model = JudgeModel(uniform)
    blocked = EMAIL.model_copy(update={"action": "block"})
    (outcome,) = judge([moderated_task(generation(KIND), None, "block", blocked)], generator=model)
    result = receipt(outcome)
    assert (result.status, result.answer) == ("blocked", answer(None))
    assert "blocked" in (result.judge.scores[0].reason or "")
    assert model.calls == []


def test_the_receipt_of_an_evaluation() -> None:
    """An evaluation's receipt has the verdict and nothing that a generation would have; the judge sees its context."""
    job = EvaluationJob(
        input="Who?", output="Ada", context="It was Ada.", reference="Ada", criteria=(ExactMatch(), KIND), tenant="shop"
    )
    model = JudgeModel(uniform)
    (outcome,) = judge([Task(JOB_ID, job, job, ACCEPTED)], generator=model)
    result = receipt(outcome)
    assert (result.status, result.kind, result.tenant) == ("completed", "evaluation", "shop")
    assert (result.answer, result.moderation) == (None, None)
    assert [score.value for score in result.judge.scores] == [1.0, 0.5]
    assert "It was Ada." in model.calls[0][0][0][-1].content


def test_a_job_without_criteria_needs_no_judge() -> None:
    (outcome,) = judge([moderated_task(generation())], generator=None)
    assert receipt(outcome).judge.scores == ()


def test_trouble_of_the_model() -> None:
    def weigh(prompt: Prompt, choices: object) -> Probabilities:
        text = prompt[-1].content
        return Unavailable("later") if "LATER" in text else PromptTooLong("too long") if "LONG" in text else (0.1,) * 4

    tasks = [moderated_task(generation(KIND), text) for text in ("LATER", "LONG", "fine")]
    later, long, fine = judge(tasks, generator=JudgeModel(weigh))
    assert isinstance(later, Retry)
    assert later == Retry("later", otherwise=later.otherwise)
    assert receipt(long).judge.scores[0].reason == "too long"
    assert receipt(fine).judge.scores[0].value == 0.5


def test_the_answer_goes_out_when_the_model_never_comes_back() -> None:
    job = generation(Contains(text="email"), KIND, idempotency_key="k")
    (outcome,) = judge([moderated_task(job)], generator=JudgeModel(lambda *_: Unavailable("later")))
    assert isinstance(outcome, Retry)
    assert isinstance(outcome.otherwise, Ended)
    judged = outcome.otherwise.event
    assert (judged.status, judged.answer, judged.idempotency_key) == ("completed", answer("Write [EMAIL]"), "k")
    contains, rubric = judged.judge.scores
    assert (contains.value, rubric.value, rubric.reason) == (1.0, None, "given up: later")


def test_a_busy_judge_makes_its_job_wait_without_an_attempt() -> None:
    task = moderated_task(generation(KIND))

    def judged(after: float, left: float | None) -> Outcome:
        busy = JudgeModel(lambda *_: ProviderBusy("slow down", after=after))
        (outcome,) = judge([replace(task, seconds_left=left)], generator=busy)
        return outcome

    assert judged(12.5, None) == judged(12.5, 60) == Wait(None, "slow down", at_most=12.5)
    assert judged(3_600, None) == Wait(None, "slow down", at_most=60)
    late = judged(12.5, 10)
    assert isinstance(late, Retry)
    assert (late.after, isinstance(late.otherwise, Ended)) == (12.5, True)


def test_an_unmoderated_output_is_never_judged() -> None:
    """An output that did not pass moderation ends with a reason: it must not leave as a receipt."""
    output = Output(job_id=JOB_ID, tenant="shop", answer=answer("raw"))
    wrong, right = judge(
        [Task(JOB_ID, generation(KIND), output, ACCEPTED), moderated_task(generation(KIND))],
        generator=JudgeModel(uniform),
    )
    assert isinstance(wrong, Dead)
    assert "raw" not in wrong.reason
    assert receipt(right).answer == answer("Write [EMAIL]")


def test_criteria_of_several_models_are_judged_by_each_in_turn() -> None:
    wanted = (
        Rubric(question="Kind?", model="a", name="kind"),
        Contains(text="tea"),
        Rubric(question="True?", model="b", name="true"),
        Rubric(question="Short?"),
        Pairwise(model="a", uncertain=Uncertain(criterion="true", low=0.4, high=0.6)),
    )
    task = moderated_task(generation(*wanted, other="coffee"), "tea", "allow")
    first, second = JudgeModel(uniform, alias="a"), JudgeModel(uniform, alias="b")
    order = []
    for judge_model in (first, second, first):
        (outcome,) = judge([task], generator=judge_model)
        order.append(judge_model.alias)
        if isinstance(outcome, Ended):
            break
        assert isinstance(outcome, Done)
        assert (outcome.event, outcome.to, outcome.model) == (None, "rubric", "b" if judge_model is first else "a")
        task = replace(task, context={**task.context, **outcome.context})
    assert order == ["a", "b", "a"]
    scores = receipt(outcome).judge.scores
    assert [(score.criterion, score.model) for score in scores] == [
        ("rubric", "a"), ("contains", None), ("rubric", "b"), ("rubric", "a"), ("pairwise", "a"),
    ]  # fmt: skip
    assert (scores[0].name, scores[1].value) == ("kind", 1.0)
    assert (len(first.calls), len(second.calls)) == (2, 1)


def test_who_is_not_drawn_does_not_go_to_its_model() -> None:
    named = Rubric(question="True?", model="b", share=1e-9)
    judge_model = JudgeModel(uniform, alias="a")
    drawn = generation(Rubric(question="?", model="a"), named)
    (outcome,) = judge([moderated_task(drawn, "tea", "allow")], generator=judge_model)
    assert [score.not_judged for score in receipt(outcome).judge.scores] == [None, NotJudged.NOT_SAMPLED]
    two = (Rubric(question="?", model="a"), Rubric(question="?", model="b"))
    (outcome,) = judge([moderated_task(generation(*two), None, "block")], generator=judge_model)
    assert [score.not_judged for score in receipt(outcome).judge.scores] == [NotJudged.BLOCKED] * 2


def test_trouble_of_one_model_keeps_no_other_from_judging() -> None:
    two = (Rubric(question="?", model="a"), Rubric(question="?", model="b"))
    task = moderated_task(generation(*two), "tea", "allow")
    (outcome,) = judge([task], generator=JudgeModel(lambda prompt, choices: Unavailable("not now"), alias="a"))
    assert isinstance(outcome, Retry)
    assert isinstance(outcome.otherwise, Done)
    task = replace(task, context=outcome.otherwise.context)
    (outcome,) = judge([task], generator=JudgeModel(uniform, alias="b"))
    assert [score.not_judged for score in receipt(outcome).judge.scores] == [NotJudged.FAILED, None]


def test_a_criterion_judges_the_output_that_it_brings() -> None:
    own, plain = Contains(text="tea", output="green tea"), Contains(text="tea")
    asked = Rubric(question="Kind?", output="of its own")
    judge_model = JudgeModel(uniform)
    (outcome,) = judge([moderated_task(generation(own, plain, asked), "coffee", "allow")], generator=judge_model)
    assert [score.value for score in receipt(outcome).judge.scores[:2]] == [1.0, 0.0]
    ((prompt,), _) = judge_model.calls[0]
    assert ("of its own" in prompt[-1].content, "coffee" in prompt[-1].content) == (True, False)
    (outcome,) = judge([moderated_task(generation(own, plain), None, "block")])
    assert [score.not_judged for score in receipt(outcome).judge.scores] == [None, NotJudged.BLOCKED]
    assert own.version == plain.version


@pytest.mark.parametrize("criterion", [KIND, Rubric(question="How kind?", scale="1-5"), Pairwise(question="Kinder?")])
def test_a_model_that_failed_its_probe_gives_no_score_on_any_scale(criterion: Rubric | Pairwise) -> None:
    model = JudgeModel(uniform, alias="small")
    task = moderated_task(generation(criterion, Contains(text="M"), other="Be nice."))
    (outcome,) = judge([task], generator=model, judge_fault={"small": "it prefers the first"}.get)
    rubric, rule = receipt(outcome).judge.scores
    assert (rubric.value, rubric.not_judged, rubric.model) == (None, NotJudged.UNTRUSTED, "small")
    assert "it prefers the first" in rubric.reason
    assert rule.value is not None
    assert model.calls == []


def test_what_a_probe_said_counts_for_the_worker_unless_its_settings_accept_any_judge(tmp_path: Path) -> None:
    env = {**Addresses("k:1", "redis://r", "sqlite:///l").env(), "HEADRACE_HOME": str(tmp_path)}

    def fault(**more: str) -> str | None:
        worker = SimpleNamespace(settings=Settings.from_env({**env, **more}))
        worker.once = lambda build: build(worker)
        return parts(worker)["judge_fault"]()("small")

    assert fault() is None
    note_probe(tmp_path, "small", "it prefers the first")
    assert fault() == "it prefers the first"
    assert fault(HEADRACE_ACCEPT_UNTRUSTED="true") is None
