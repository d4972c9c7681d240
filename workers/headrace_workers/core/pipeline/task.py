"""Input of a step: the job, the event that brought it to this stage, the state that goes on with it, and what it costs
by estimate.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from headrace_schemas import (
    DecisionJob,
    EmbeddingJob,
    EvaluationJob,
    GenerationJob,
    HeadraceError,
    Moderated,
    ModerationJob,
    Output,
    TuningJob,
)
from headrace_schemas.decision import Choice, Predicate, ScaleQuestion, labels_of
from headrace_schemas.event_types import Event
from headrace_schemas.events import JobEvent, StageRecord
from headrace_schemas.job import AnyJob
from headrace_schemas.limits import MAX_EVENT_BYTES

# The name in the context of a step under which is what a person needs who decides about it while it is held, and the
# text that they wrote instead. It ends with the step.
HELD: Final = "held"
VERDICT: Final = "verdict"  # in it: of moderation
SAID: Final = "said"  # the text that this is about, where no answer is held
SCORES: Final = "scores"
CORRECTED: Final = "corrected"

Job = AnyJob
StepEvent = Job | Output | Moderated


@dataclass(frozen=True, slots=True)
class Task:
    """A job at a stage.

    `event` is the job itself, or what the last stage that published said. `context` is what stages before this one
    handed on without publishing it. `ordinal` says how often the job has gone back to an earlier stage. `stages` tells
    what each did so far. `woken_by` is set when this step waited: the job whose end it waited for, or `RELEASED`.
    `seconds_left` are those until the job's deadline, when its group began; None without one. `waited` are those since
    it first waited for its model; 0 before.
    """

    job_id: str
    job: Job
    event: StepEvent
    accepted_at: datetime
    attempt: int = 1
    context: Mapping[str, Any] = field(default_factory=dict)
    ordinal: int = 0
    stages: tuple[StageRecord, ...] = ()
    woken_by: str | None = None
    seconds_left: float | None = None
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Unit:
    """An event for one endpoint. `value` is the event as it was published; a delivery's content lies in a table of its
    own, and it has neither.

    `job` is there where the unit does once more what a job asked for, as an audit does.
    """

    id: str
    subject: str
    tenant: str
    endpoint: str
    event: Event | None
    value: bytes
    attempt: int = 1
    woken_by: str | None = None
    job: Job | None = None


# Parts of a text that are about one token: a word, a digit, any other sign. Only for sizing groups: the engine counts
# exactly. Of real prompts of 100 tokens this is 2 off where characters / 4 are 7 off; prompts that are grouped by a
# poor guess of their length cost a tenth of a model's speed.
_PIECE = re.compile(r"[A-Za-z]{1,12}|[^\sA-Za-z]")


def estimate_tokens(job: Job) -> int:
    """Return roughly how many tokens a job may cost at most: its prompt and the longest answer."""
    match job:
        case GenerationJob():
            turns = [message.content for message in job.messages] or [job.prompt or ""]
            shapes = [tool.model_dump_json() for tool in (job.output, *job.tools) if tool is not None]
            return sum(map(pieces, (*turns, *shapes))) + job.sampling.max_tokens
        case EvaluationJob():
            return pieces(job.input) + pieces(job.output) + 1
        case EmbeddingJob() | ModerationJob():
            return pieces(job.input) + 1
        case DecisionJob():  # the input is read once for all questions
            return sum(pieces(turn.content) for turn in job.conversation) + sum(map(pieces_of_question, job.questions))
        case TuningJob():  # the size of its file says more: see features/tuning/admission.py
            return 1


def pieces_of_question(question: Predicate | Choice | ScaleQuestion) -> int:
    """Return about how many tokens a question has; its labels are read in it, and their ends are scored."""
    return pieces(question.model_dump_json(exclude={"type", "name"}, exclude_none=True)) + labels_of(question)


def pieces(text: str) -> int:
    """Return about how many tokens a text has, for any model."""
    return len(_PIECE.findall(text))


class WrongOutcome(HeadraceError):
    """A step said what cannot be done: the message goes on from its stage's name."""


def published(event: object) -> tuple[StageRecord, ...]:
    """Return the records of stages that an event carries; a job, which is the first, carries none."""
    return event.stages if isinstance(event, JobEvent) else ()


def pack(context: Mapping[str, Any], unpublished: Sequence[StageRecord]) -> bytes | None:
    """Return both as JSON; None when both are empty. Raise WrongOutcome when the context is no JSON, or too large."""
    if not context and not unpublished:
        return None
    stages = [record.model_dump(exclude_none=True) for record in unpublished]
    try:
        value = json.dumps({"context": dict(context), "stages": stages}, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise WrongOutcome(f"returned a context that is no JSON: {error}") from error
    if len(value) > MAX_EVENT_BYTES:
        raise WrongOutcome(f"returned a context of {len(value)} bytes, more than the limit of {MAX_EVENT_BYTES}")
    return value


def unpack(value: bytes | None) -> tuple[dict[str, Any], tuple[StageRecord, ...]]:
    """Return the context, and the records of stages that published nothing."""
    if value is None:
        return {}, ()
    found = json.loads(value)
    return found["context"], tuple(StageRecord.model_validate(record) for record in found["stages"])
