"""Texts of an item's job that people see, and that a decision keeps."""

from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from pydantic_core import from_json, to_json

from headrace_schemas import (
    Answer,
    DecisionJob,
    EvaluationJob,
    GenerationJob,
    Message,
    Moderated,
    ModerationVerdict,
    Output,
    Result,
)
from headrace_schemas.application import ApplicationVersion
from headrace_schemas.codec import decode_job, decode_value
from headrace_schemas.criteria import Pairwise, Rubric
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.events import Score
from headrace_schemas.grounding import Citation
from headrace_schemas.job import AnyJob
from headrace_schemas.reasons import reason_of
from headrace_schemas.tool import ToolCall
from headrace_workers.core.pipeline.task import HELD, SAID, SCORES, VERDICT
from headrace_workers.features.reviews.decision import Decision
from headrace_workers.features.reviews.rules import ANSWER_STAGES
from headrace_workers.models.structured.validity import failure_of

GOOD: Final = "good"  # the criterion of answers whose job names none


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemContent:
    """Rows of an item's job, and of the step at which it is held."""

    kind: str
    payload: bytes
    terminal_type: str | None
    terminal: bytes | None
    traceparent: str | None
    correlationid: str | None
    event_type: str | None
    event: bytes | None
    context: bytes | None
    reason: str | None
    held_at: int | None

    OF_JOB: ClassVar = ("kind", "payload", "terminal_type", "terminal", "traceparent", "correlationid")
    OF_STEP: ClassVar = {
        "event_type": "event_type", "event": "payload", "context": "context", "reason": "reason", "held_at": "held_at",
    }  # fmt: skip

    @property
    def job(self) -> AnyJob:
        """Return the job, as its application was resolved."""
        return decode_job(self.kind, self.payload)

    @property
    def answer(self) -> Answer | None:
        """Return the answer as it is held, or as the receipt shows it; None where the job has none."""
        if self.event is not None and self.event_type is not None:
            held = decode_value(self.event_type, self.event)
            return held.answer if isinstance(held, Output | Moderated) else None
        return None if self.receipt is None else self.receipt.answer

    @property
    def receipt(self) -> Result | None:
        """Return the receipt with which the job ended."""
        if self.terminal is None or self.terminal_type is None:
            return None
        end = decode_value(self.terminal_type, self.terminal)
        return end if isinstance(end, Result) else None

    @property
    def application_version(self) -> ApplicationVersion | None:
        """Return the version of the application, where the job named one."""
        job = self.job
        return job.resolution.application if isinstance(job, GenerationJob) and job.resolution is not None else None


class AskedCriterion(NamedTuple):
    """A criterion by which people are asked to label: its name, its kind, and the question, where it asks one."""

    name: str
    kind: str
    question: str | None


class Shown(NamedTuple):
    """Texts of an item that a person sees. Of a held job, `reason` says what is asked; the spans of `verdict` are in
    characters of `of_text`, where that is not the answer.
    """

    turns: tuple[Message, ...]
    answer: str | None
    tool_calls: tuple[ToolCall, ...]
    citations: tuple[Citation, ...]
    context: str | None
    reason: str | None
    verdict: ModerationVerdict | None
    of_text: str | None
    scores: tuple[Score, ...]
    criteria: tuple[AskedCriterion, ...]
    categories: tuple[str, ...]


def shown(content: ItemContent, stage: str | None, *, blind: bool) -> Shown:
    """Return what is shown of a job that is held at this stage, or that has ended; with `blind` neither the verdict nor
    the scores.
    """
    job, answer = content.job, content.answer
    verdict, of_text, scores = _verdicts(content, stage)
    flagged = () if verdict is None else tuple(sorted(name for name, is_so in verdict.categories.items() if is_so))
    text = job.output if isinstance(job, EvaluationJob) else None if answer is None else answer.text
    return Shown(
        turns=_turns(job),
        answer=text,
        tool_calls=() if answer is None else answer.tool_calls,
        citations=() if answer is None or answer.grounding is None else answer.grounding.citations,
        context=job.context if isinstance(job, EvaluationJob) else None,
        reason=content.reason,
        verdict=None if blind else verdict,
        of_text=None if blind else of_text,
        scores=() if blind else scores,
        criteria=asked_criteria(job),
        categories=() if stage is None else flagged,  # of an ended answer they would tell the verdict
    )


def _turns(job: AnyJob) -> tuple[Message, ...]:
    match job:
        case GenerationJob() | DecisionJob():
            return job.conversation
        case EvaluationJob():
            return (Message(role="user", content=job.input),)
    return ()


def asked_criteria(job: AnyJob) -> tuple[AskedCriterion, ...]:
    """Return the criteria that a job names, or the one of answers whose job names none."""
    named = [item for item in getattr(job, "criteria", ()) if item.name is not None]
    if not named:
        return (AskedCriterion(GOOD, "rubric", "Is this a good answer?"),)
    return tuple(
        AskedCriterion(item.name, item.criterion, item.question if isinstance(item, Rubric | Pairwise) else None)
        for item in named
    )


def _verdicts(
    content: ItemContent, stage: str | None
) -> tuple[ModerationVerdict | None, str | None, tuple[Score, ...]]:
    """Return the verdict of moderation, the text of its spans where that is not the answer, and the scores."""
    if stage is None:
        receipt = content.receipt
        return (None, None, ()) if receipt is None else (receipt.moderation, None, receipt.judge.scores)
    known = {} if content.context is None else from_json(content.context)["context"].get(HELD, {})
    scores = tuple(Score.model_validate(score) for score in known.get(SCORES, ()))
    if VERDICT in known:
        return ModerationVerdict.model_validate(known[VERDICT]), known.get(SAID), scores
    if content.event is not None and content.event_type is not None:
        event = decode_value(content.event_type, content.event)
        if isinstance(event, Moderated):
            return event.moderation, None, scores
    return None, None, scores


def check_correction(stage: str | None, content: ItemContent, text: str) -> None:
    """Raise InvalidRecord where this text cannot take the place of a held answer."""
    job, answer = content.job, content.answer
    if stage not in ANSWER_STAGES or answer is None or not isinstance(job, GenerationJob):
        raise InvalidRecord(
            "action: no answer is held that could be corrected: release or withhold the job", param="action"
        )
    if answer.tool_calls:
        raise InvalidRecord(
            "action: an answer that calls tools cannot be corrected: release or withhold the job", param="action"
        )
    wanted = job.format_of(())
    failure = None if wanted is None else failure_of(wanted, text, "stop")
    if failure is not None:
        raise InvalidRecord(f"corrected: {reason_of(failure)}", param="corrected")


def example_of(content: ItemContent, decision: Decision) -> bytes | None:
    """Return what training needs of a decision about an answer, as JSON, since jobs are deleted long before that; None
    where there is no answer.
    """
    job, answer = content.job, content.answer
    if not isinstance(job, GenerationJob) or answer is None or answer.text is None:
        return None
    version = content.application_version
    fields = {
        "messages": [
            {"content": message.content, **message.model_dump(mode="json", exclude_defaults=True)}
            for message in job.conversation
        ],
        "answer": answer.text,
        "corrected": decision.corrected,
        "model": answer.model,
        "application": None if version is None else str(version),
    }
    return to_json({name: value for name, value in fields.items() if value is not None})
