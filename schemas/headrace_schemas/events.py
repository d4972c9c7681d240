"""Events about a job: its output, its moderation and its result, or the reason why there is none."""

import base64
import struct
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from headrace_schemas.errors import Category
from headrace_schemas.grounding import Grounding
from headrace_schemas.limits import (
    INTEGRAL,
    MAX_ATTEMPTS,
    MAX_COSTED,
    MAX_CRITERIA,
    MAX_DIMENSIONS,
    MAX_UNSUPPORTED,
    Alias,
    Base64,
    Currency,
    Label,
    Name,
    ShortText,
    Tenant,
    Text,
)
from headrace_schemas.min_quality import QualityFloor
from headrace_schemas.model import OutgoingValue
from headrace_schemas.moderation import Count, ModerationVerdict, Unit
from headrace_schemas.not_judged import NotJudged
from headrace_schemas.recall import Recall
from headrace_schemas.times import Time
from headrace_schemas.topics import ABOUT_JOBS

JobId = Annotated[str, Field(min_length=36, max_length=36)]
Milliseconds = Annotated[float, Field(ge=0)]
JobKind = Literal["generation", "evaluation", "embedding", "moderation"]
FinishReason = Literal["stop", "length", "abstained"]


class Usage(OutgoingValue):
    """Tokens read and written."""

    prompt_tokens: Count
    completion_tokens: Annotated[Count, Field(description="With those that the model thought with.")]
    cached_tokens: Annotated[
        Count | None, Field(description="Of the prompt's: those that the provider had computed before.")
    ] = None
    reasoning_tokens: Annotated[
        Count | None, Field(description="Of the completion's: those that the model thought with, and did not show.")
    ] = None


class Attempt(OutgoingValue):
    """One call of one model for a job: what came of it, how long it took, and what it cost.

    `category` is absent for the attempt that answered.
    """

    model: Alias
    provider: Annotated[Name | None, Field(description="Whose machine read the text; absent: a machine of ours.")] = (
        None
    )
    category: Category | None = None
    reason: ShortText | None = None
    ms: Milliseconds
    usage: Usage | None = None
    cost: Annotated[Count | None, Field(description="In millionths of the currency; absent: unknown.")] = None


class ModelCost(OutgoingValue):
    """What the calls of one model cost, in millionths of the currency: judges and failed attempts included.

    A call of which nobody knows whether it was billed, such as that of a worker that was killed, counts with the most
    that it may have cost.
    """

    model: Alias
    calls: Count
    amount: Count = 0
    unknown_calls: Annotated[Count, Field(description="Of the calls: those whose price is not known.")] = 0


class Cost(OutgoingValue):
    """What a job cost, in millionths of the currency (ISO 4217). An answer from the cache costs nothing."""

    amount: Count
    currency: Annotated[Currency | None, Field(description="Absent where no call has a known price.")] = None
    unknown: Annotated[
        bool, Field(description="True if the price of a model is not known: `amount` is then that of the others alone.")
    ] = False
    models: Annotated[tuple[ModelCost, ...], Field(max_length=MAX_COSTED)] = ()


class Answer(OutgoingValue):
    """A model's answer: its text, why it ended, the model and the usage. Each event carries it whole.

    `text` is redacted where the policy says so, and absent when moderation blocked it. Where nothing was found that the
    answer could rest on, `finish_reason` may be `abstained`: no model was run, and the text is empty.
    """

    text: Text | None = None
    finish_reason: FinishReason
    model: Alias
    quantization: Name
    usage: Usage
    provider: Annotated[Name | None, Field(description="Whose machine answered; absent: a machine of ours.")] = None
    returned_model: Annotated[
        ShortText | None, Field(description="Of a remote model: the name under which its provider answered.")
    ] = None
    fingerprint: Annotated[
        ShortText | None, Field(description="Of a remote model: the version that its provider names, where it does.")
    ] = None
    attempts: Annotated[
        tuple[Attempt, ...],
        Field(max_length=MAX_ATTEMPTS, description="Every call of a model for this answer; absent after a single one."),
    ] = ()
    because: Annotated[
        ShortText | None, Field(description="Why this model answered, where another was asked first.")
    ] = None
    recall: Annotated[Recall | None, Field(description="Of a job that asked for the cache.")] = None
    grounding: Annotated[Grounding | None, Field(description="Of a job that named a knowledge base.")] = None

    def with_text(self, text: str | None) -> Self:
        """Return the same answer with another text, or with none. Raise ValidationError for a value that is no text."""
        if text == self.text:
            return self
        return type(self).model_validate({**dict(self), "text": text})


class StageRecord(OutgoingValue):
    """Record of one stage for one job: the attempt that counted, time spent ready and waiting, time running (ms).

    `ran_ms` is the time of the group that the job ran in; `group_size` says how many shared it.
    """

    stage: Name
    attempt: Annotated[int, Field(ge=1), INTEGRAL]
    waited_ms: Milliseconds
    ran_ms: Milliseconds
    group_size: Annotated[int, Field(ge=1), INTEGRAL]


class JobEvent(OutgoingValue):
    """Fields that every event about an accepted job carries."""

    job_id: JobId
    tenant: Tenant
    stages: tuple[StageRecord, ...] = ()


class Output(JobEvent):
    """A model's answer before moderation. Do not show it to anyone: read `moderated` or `results`."""

    answer: Answer

    @model_validator(mode="after")
    def _written(self) -> "Output":
        if self.answer.text is None:
            raise ValueError("answer.text is missing: only moderation withholds it")
        return self

    @property
    def text(self) -> str:
        """Return the text for moderation: an output always has a text, which may be empty."""
        return self.answer.text or ""


class Moderated(JobEvent):
    """An output after moderation. The text is redacted where the policy says so, and absent when it was blocked."""

    answer: Answer
    moderation: ModerationVerdict

    @model_validator(mode="after")
    def _blocked_means_absent(self) -> "Moderated":
        if (self.moderation.action == "block") != (self.answer.text is None):
            raise ValueError("answer.text is absent exactly when the output was blocked")
        return self


class JobHeld(JobEvent):
    """A job is held: what it came to is shown to nobody until a person has decided, or what is down works again.

    It is told once for each time that a job comes to be held, and is no end of it.
    """

    stage: Annotated[Name, Field(description="Where it is held.")]
    reason: Annotated[
        ShortText, Field(description="The decision to make, or the service that is down. It quotes no text.")
    ]
    needs_person: Annotated[
        bool, Field(description="True if a person must decide. Otherwise the step is tried again by itself.")
    ]


class Unsupported(OutgoingValue):
    """A sentence of the answer that what it was given does not support. Offsets are in characters of the answer."""

    start: Count
    stop: Count
    support: Annotated[Unit, Field(description="How likely it is supported after all.")]
    reason: ShortText


class Score(OutgoingValue):
    """The result of a criterion: a value in [0, 1], or the reason why it could not be judged."""

    criterion: Name
    name: Annotated[Label | None, Field(description="The criterion's own, where it has one.")] = None
    version: Annotated[
        Alias | None, Field(description="Of a criterion with a name: the digest of what it asked for.")
    ] = None
    value: Unit | None = None
    mass: Annotated[
        Unit | None, Field(description="Of what a model judged: the probability that fell on the permitted answers.")
    ] = None
    model: Annotated[Alias | None, Field(description="Of what a model judged: which one.")] = None
    probability: Annotated[
        float | None,
        Field(gt=0, le=1, description="With which the job was drawn to be judged by this; absent: all jobs are."),
    ] = None
    not_judged: Annotated[
        NotJudged | None, Field(description="Which kind of reason there is for having no value: to count by.")
    ] = None
    reason: Annotated[ShortText | None, Field(description="The same in words.")] = None
    note: Annotated[
        ShortText | None,
        Field(description="A remark on the value, for example that the judge saw a shortened text."),
    ] = None
    unsupported: Annotated[
        tuple[Unsupported, ...] | None,
        Field(max_length=MAX_UNSUPPORTED, description="Of `grounded`: the sentences that are not supported."),
    ] = None

    @model_validator(mode="after")
    def _value_or_reason(self) -> "Score":
        told = {self.not_judged is None, self.reason is None}
        if told != {self.value is not None}:
            raise ValueError("a score has either a value, or a code and a reason for its absence")
        return self


class JudgeVerdict(OutgoingValue):
    """A score for each criterion that the job asked for, in its order, and the outcome of its minimum quality."""

    scores: Annotated[tuple[Score, ...], Field(max_length=MAX_CRITERIA)] = ()
    floor: Annotated[QualityFloor | None, Field(description="Of a job that asks for `min_quality`.")] = None


class Embedding(OutgoingValue):
    """The vector of a text: float32, little-endian, as base64. Its length is 1."""

    model: Alias
    embedder: Annotated[
        ShortText,
        Field(description="The model, its number format and weights. Vectors of two of these cannot be compared."),
    ]
    dimensions: Annotated[int, Field(ge=1, le=MAX_DIMENSIONS), INTEGRAL]
    vector: Annotated[Base64, Field(json_schema_extra={"contentEncoding": "base64"})]
    usage: Annotated[
        Usage, Field(description="Tokens read, those that the embedder adds among them; none are written.")
    ]

    @property
    def floats(self) -> tuple[float, ...]:
        """Return the vector as numbers."""
        data = base64.b64decode(self.vector)
        return struct.unpack(f"<{len(data) // 4}f", data)


class Result(JobEvent):
    """The receipt: the end of a job that was answered. `blocked` means that moderation withheld the text.

    A result of an evaluation job has no answer and no moderation of its own: only the judge's verdict. That of an
    embedding job has its `embedding`; that of a moderation job, which is `completed` whatever was found, `moderation`.
    """

    status: Literal["completed", "blocked"]
    refusal: Annotated[
        Literal["prompt_blocked"] | None,
        Field(description="Why no model was run: moderation, whose verdict is there, blocked the prompt itself."),
    ] = None
    kind: JobKind
    idempotency_key: str | None = None
    metadata: dict[str, str] = {}
    answer: Answer | None = None
    moderation: ModerationVerdict | None = None
    embedding: Embedding | None = None
    judge: JudgeVerdict = JudgeVerdict.model_construct()  # without a validator: the import would build it
    cost: Annotated[Cost | None, Field(description="Of all calls of models for this job.")] = None
    accepted_at: Time
    total_ms: Annotated[
        Milliseconds,
        Field(description="From acceptance to this receipt: all waiting and running, and the ledger's own time."),
    ] = 0.0


class JobCancelled(JobEvent):
    """The end of a job that was cancelled before it was answered."""

    reason: ShortText = ""
    cost: Annotated[Cost | None, Field(description="Of the calls of models until then; absent: there was none.")] = None


class DeadLetter(OutgoingValue):
    """A job or record that failed for good, the reason, and the original record, so that it can be replayed.

    With a `job_id` it is the end of that job. Without one it tells of a record that never became a job, and ends none:
    `refers_to` is then the id that the job has or would have had, where that can be told, and what the record said of
    itself stands beside it, so that its sender finds it. A corrected record under the same key is a new chance.
    """

    job_id: Annotated[JobId | None, Field(description="The job that this is the end of.")] = None
    refers_to: Annotated[
        JobId | None, Field(description="Of a refused record: the job that it is about, or would have been.")
    ] = None
    tenant: Tenant | None = None
    category: Category
    reason: ShortText
    stage: Annotated[Name, Field(description="Where it failed: `ingest` for a record that was refused at the door.")]
    attempts: Count = 0
    cost: Annotated[Cost | None, Field(description="Of a job that called models before it failed.")] = None
    topic: str
    partition: Count | None = None  # this and what follows: of a record that was refused, as far as it could be read
    offset: Count | None = None
    key: str | None = None
    ce_id: str | None = None
    ce_subject: str | None = None
    correlationid: str | None = None
    traceparent: str | None = None
    size: Annotated[Count, Field(description="Bytes of the original value.")]
    original: Annotated[
        str, Field(description="The value as text, or base64 where it is no UTF-8; cut to the first 64 KiB.")
    ]
    encoding: Literal["utf-8", "base64"]
    truncated: bool = False

    @property
    def concerns(self) -> str | None:
        """Return the job whose sender waits for this: the job that ended, or that the refused record would have been.

        A refused wish to cancel refers to a job too, and changes nothing for who waits for that.
        """
        return self.job_id or (None if self.topic in ABOUT_JOBS else self.refers_to)
