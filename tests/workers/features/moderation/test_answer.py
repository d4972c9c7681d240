"""What is said about an answer reaches its receipt: no step between knows its fields."""

from datetime import UTC, datetime

import pytest

from headrace_schemas import Answer, Category, Contains, GenerationJob, Moderated, Output, Result, Usage
from headrace_schemas.codec import decode_value, encode_value
from headrace_schemas.event_types import type_of
from headrace_schemas.events import Attempt, JobEvent
from headrace_schemas.grounding import Citation, Grounding
from headrace_schemas.recall import Recall
from headrace_workers.core.ledger.outcome import Done, Ended, Outcome
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.judging.stage import judge
from headrace_workers.features.moderation.moderator import PolicyModerator
from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.moderation.policy_file import load_policy
from headrace_workers.features.moderation.step import moderate

JOB = GenerationJob(model="m", prompt="Who?", criteria=(Contains(text="write"),))
JOB_ID = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"
RAW, REDACTED = "Write to jo@headrace.io.", "Write to [EMAIL]."
MODERATOR = PolicyModerator([PersonalDataDetector()], load_policy(None))
KNOWN = {
    "text": RAW,
    "finish_reason": "length",
    "tool_calls": (),  # test_call_texts.py has some
    "model": "small",
    "quantization": "int8",
    "usage": Usage(prompt_tokens=3, completion_tokens=4),
    "provider": "openai",
    "returned_model": "small-2026-11-01",
    "fingerprint": "fp_1",
    "attempts": (
        Attempt(model="first", provider="anthropic", category=Category.REROUTABLE, reason="cut off", ms=3.0),
        Attempt(model="small", provider="openai", ms=5.0),
    ),
    "because": "small answered in place of first (reroutable: cut off)",
    "recall": Recall(similarity=0.5, refused="numbers: 3 and 4"),
    "grounding": Grounding(
        knowledge="docs",
        floor=0.3,
        relevance=0.5,
        unknown=(4,),
        citations=(Citation(number=1, document="a.md", start=0, stop=9, chunk="k", relevance=0.5, cited=True),),
    ),
    "by_person": True,
}


class CitedAnswer(Answer):
    """An answer that says more than any step has heard of."""

    sources: tuple[str, ...]


def task(event: JobEvent) -> Task:
    return Task(JOB_ID, JOB, event, datetime(2026, 1, 1, tzinfo=UTC))  # type: ignore[arg-type]


def done(outcome: Outcome) -> JobEvent:
    assert isinstance(outcome, Done | Ended)
    return outcome.event


def receipt_of(answer: Answer) -> Result:
    output = Output(job_id=JOB_ID, tenant="shop", answer=answer)
    (moderated,) = moderate([task(output)], moderator=MODERATOR)
    (judged,) = judge([task(done(moderated))], generator=None)
    result = done(judged)
    assert isinstance(result, Result)
    return result


def test_a_field_that_no_step_knows_reaches_the_receipt() -> None:
    """A new field is written where the answer is made, and nowhere else; only the text is moderation's."""
    answer = CitedAnswer(**KNOWN, sources=("the register", "page 7"))  # type: ignore[arg-type]
    assert receipt_of(answer).answer == CitedAnswer(**KNOWN | {"text": REDACTED}, sources=answer.sources)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "shown"), [(RAW, REDACTED), ("A river.", "A river."), ("", "")])
def test_every_field_reaches_the_receipt_on_the_wire(text: str, shown: str) -> None:
    event: object = Output(job_id=JOB_ID, tenant="shop", answer=Answer.model_validate(KNOWN | {"text": text}))
    for step in (lambda tasks: moderate(tasks, moderator=MODERATOR), lambda tasks: judge(tasks, generator=None)):
        assert isinstance(event, Output | Moderated)
        read = decode_value(type_of(event), encode_value(event))
        (outcome,) = step([task(read)])  # type: ignore[arg-type]
        event = done(outcome)
    assert isinstance(event, Result)
    assert set(KNOWN) == set(Answer.model_fields)
    assert event.answer == Answer.model_validate(KNOWN | {"text": shown})
