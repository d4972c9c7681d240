"""The judge step: the receipt, and what the judge gets to see."""

from datetime import UTC, datetime

from tests.workers.judging.judge_model import JudgeModel, Probabilities, Prompt, uniform

from headrace_schemas import (
    Answer,
    Contains,
    EvaluationJob,
    ExactMatch,
    Finding,
    GenerationJob,
    Moderated,
    ModerationVerdict,
    Output,
    Result,
    Rubric,
    Usage,
)
from headrace_schemas.errors import PromptTooLong, Unavailable
from headrace_workers.steps.judge import judge
from headrace_workers.steps.outcome import Dead, Ended, Outcome, Retry
from headrace_workers.steps.task import Task

JOB_ID = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"
ACCEPTED = datetime(2026, 1, 1, tzinfo=UTC)
EMAIL = Finding(category="email", detector="presidio", score=1, start=6, end=13, action="redact")
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
    """The receipt carries the job's key and metadata, what moderation passed on, and one score a criterion."""
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
    """A rubric is asked about what moderation let through, with the job's question and reference."""
    model = JudgeModel(uniform)
    judge([moderated_task(generation(KIND, reference="Someone."))], generator=model)
    ((prompts, _),) = model.calls
    whole = prompts[0][-1].content
    for part in ("Write [EMAIL]", "Who?", "Someone.", "Is it kind?"):
        assert part in whole


def test_a_blocked_output() -> None:
    """A blocked output has a receipt without text, its scores say why, and no model sees anything of it."""
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
    """Nothing asked, nothing judged: the receipt is there all the same."""
    (outcome,) = judge([moderated_task(generation())], generator=None)
    assert receipt(outcome).judge.scores == ()


def test_a_rubric_without_a_model_is_a_reason() -> None:
    """Where no model judges, the receipt says so."""
    (outcome,) = judge([moderated_task(generation(KIND))], generator=None)
    assert "no model" in (receipt(outcome).judge.scores[0].reason or "")


def test_trouble_of_the_model() -> None:
    """A passing error retries its task alone; a lasting one is a reason in the receipt."""

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
    """What is to be sent in the end is the whole receipt, in which the rubric alone has a reason for its value."""
    job = generation(Contains(text="email"), KIND, idempotency_key="k")
    (outcome,) = judge([moderated_task(job)], generator=JudgeModel(lambda *_: Unavailable("later")))
    assert isinstance(outcome, Retry)
    assert isinstance(outcome.otherwise, Ended)
    judged = outcome.otherwise.event
    assert (judged.status, judged.answer, judged.idempotency_key) == ("completed", answer("Write [EMAIL]"), "k")
    contains, rubric = judged.judge.scores
    assert (contains.value, rubric.value, rubric.reason) == (1.0, None, "given up: later")


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
