"""Events about a job: its output, its moderation and its result, or the reason why there is none."""

import base64
import struct
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, NoReturn, Self, get_args

from pydantic import Field, model_validator

from headrace_schemas.application import ApplicationVersion
from headrace_schemas.decision import MAX_QUESTIONS, DecisionAnswer
from headrace_schemas.errors import Category, EndCode, NoAnswer, Unparsable
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
from headrace_schemas.output_format import Failure
from headrace_schemas.parsed import M, parsed_as
from headrace_schemas.recall import Recall
from headrace_schemas.times import Time
from headrace_schemas.tool import MAX_CALLS, ToolCall
from headrace_schemas.topics import ABOUT_JOBS
from headrace_schemas.tuning import MAX_QUANTIZATIONS, Metrics, Sha256

JobId = Annotated[str, Field(min_length=36, max_length=36)]
Milliseconds = Annotated[float, Field(ge=0)]
JobKind = Literal["generation", "evaluation", "embedding", "moderation", "decision", "tuning"]
FinishReason = Literal["stop", "length", "abstained", "tool_calls"]


class Usage(OutgoingValue):
    """Tokens read and written."""

    prompt_tokens: Annotated[Count, Field(description="Tokens read.")]
    completion_tokens: Annotated[Count, Field(description="Tokens written, with those of its reasoning.")]
    cached_tokens: Annotated[
        Count | None, Field(description="Tokens of the prompt that the provider had in its cache.")
    ] = None
    reasoning_tokens: Annotated[
        Count | None, Field(description="Tokens with which the model reasoned, and which it did not show.")
    ] = None


class Attempt(OutgoingValue):
    """One call of a model for a job, and its outcome."""

    model: Annotated[Alias, Field(description="The model that was asked.")]
    provider: Annotated[
        Name | None, Field(description="Who runs the machine that read the text; absent for your own machines.")
    ] = None
    category: Annotated[
        Category | None, Field(description="The category of the error; absent for the attempt that answered.")
    ] = None
    reason: Annotated[ShortText | None, Field(description="The error in words.")] = None
    failure: Annotated[
        Failure | None, Field(description="Why the answer does not have the format that the job asks for.")
    ] = None
    ms: Annotated[Milliseconds, Field(description="How long the call took.")]
    usage: Annotated[Usage | None, Field(description="Tokens of the call, where the model counted them.")] = None
    cost: Annotated[
        Count | None, Field(description="The cost in millionths of the currency; absent if it is unknown.")
    ] = None


class ModelCost(OutgoingValue):
    """The cost of one model's calls, in millionths of the currency: judges and failed attempts included.

    A call of which nobody knows what it used, such as that of a worker that was killed, counts with the most that it
    may have cost.
    """

    model: Annotated[Alias, Field(description="The model.")]
    calls: Annotated[Count, Field(description="How often it was called.")]
    amount: Annotated[Count, Field(description="The cost of the calls whose price is known.")] = 0
    unknown_calls: Annotated[Count, Field(description="The number of calls whose price is not known.")] = 0
    bound: Annotated[Count, Field(description="The part of `amount` that is the most that calls may have cost.")] = 0
    trained_tokens: Annotated[
        Count | None, Field(description="The tokens that it was trained with; absent for a model that was asked.")
    ] = None


class Cost(OutgoingValue):
    """The cost of a job, in millionths of the currency (ISO 4217). An answer from the cache costs nothing."""

    amount: Annotated[Count, Field(description="The cost of all calls whose price is known.")]
    currency: Annotated[Currency | None, Field(description="The currency; absent if no call has a known price.")] = None
    unknown: Annotated[
        bool, Field(description="True if the price of a model is not known: `amount` is then that of the others alone.")
    ] = False
    bound: Annotated[
        Count,
        Field(
            description="The part of `amount` that is an upper bound: of calls of which nobody knows what they used."
        ),
    ] = 0
    models: Annotated[tuple[ModelCost, ...], Field(max_length=MAX_COSTED, description="The cost by model.")] = ()


# Fields of all that a model of a job's chain made.
_Model = Annotated[Alias, Field(description="The model that answered.")]
_Quantization = Annotated[Name, Field(description="The number format of its weights.")]
_Usage = Annotated[Usage, Field(description="Tokens of the job.")]
_Provider = Annotated[
    Name | None, Field(description="Who runs the machine that answered; absent for your own machines.")
]
_ReturnedModel = Annotated[ShortText | None, Field(description="The name under which the provider answered.")]
_Fingerprint = Annotated[ShortText | None, Field(description="The version of the model that the provider names.")]
_Attempts = Annotated[
    tuple[Attempt, ...],
    Field(max_length=MAX_ATTEMPTS, description="All calls of models for this answer, if there was more than one."),
]
_Because = Annotated[ShortText | None, Field(description="Why this model answered, if another was asked first.")]
_Recall = Annotated[Recall | None, Field(description="The cache lookup, if the job asked for the cache.")]


class Answer(OutgoingValue):
    """A model's answer: its text, why it ended, the model and the usage. Each event carries it whole.

    `text` is redacted where the policy says so, and absent when moderation blocked it. Where nothing was found that the
    answer could rest on, `finish_reason` may be `abstained`: no model was run, and the text is empty.
    """

    text: Annotated[Text | None, Field(description="The answer; absent if moderation blocked it.")] = None
    finish_reason: Annotated[FinishReason, Field(description="Why the answer ended.")]
    tool_calls: Annotated[
        tuple[ToolCall, ...],
        Field(max_length=MAX_CALLS, description="The calls of tools that the model asks for."),
    ] = ()
    model: _Model
    quantization: _Quantization
    usage: _Usage
    provider: _Provider = None
    returned_model: _ReturnedModel = None
    fingerprint: _Fingerprint = None
    attempts: _Attempts = ()
    because: _Because = None
    recall: _Recall = None
    grounding: Annotated[Grounding | None, Field(description="The passages, if the job named a knowledge base.")] = None
    by_person: Annotated[
        bool | None, Field(description="True if a person wrote the text, in place of the model's; else absent.")
    ] = None

    def with_text(self, text: str | None) -> Self:
        """Return the same answer with another text, or with none and no calls either. Raise ValidationError for a value
        that is no text.
        """
        if text == self.text:
            return self
        calls = () if text is None else self.tool_calls
        return type(self).model_validate({**dict(self), "text": text, "tool_calls": calls})


class StageRecord(OutgoingValue):
    """Record of one stage for one job: the attempt that counted, time spent ready and waiting, time running (ms).

    `ran_ms` is the time of the group that the job ran in; `group_size` says how many shared it.
    """

    stage: Annotated[Name, Field(description="The stage.")]
    attempt: Annotated[int, Field(ge=1, description="The attempt that succeeded, counted from 1."), INTEGRAL]
    waited_ms: Annotated[Milliseconds, Field(description="Time in the queue.")]
    ran_ms: Annotated[Milliseconds, Field(description="Time of the group on the worker.")]
    group_size: Annotated[int, Field(ge=1, description="Jobs in the group that ran together."), INTEGRAL]


class JobEvent(OutgoingValue):
    """Fields that every event about an accepted job carries."""

    job_id: Annotated[JobId, Field(description="The job.")]
    tenant: Annotated[Tenant, Field(description="The job's tenant.")]
    stages: Annotated[tuple[StageRecord, ...], Field(description="The stages that the job passed so far.")] = ()


class Output(JobEvent):
    """A model's answer before moderation. Do not show it to anyone: read `moderated` or `results`."""

    answer: Annotated[Answer, Field(description="The answer as the model wrote it.")]

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

    answer: Annotated[Answer, Field(description="The answer after moderation.")]
    moderation: Annotated[ModerationVerdict, Field(description="The decision of moderation.")]

    @model_validator(mode="after")
    def _blocked_means_absent(self) -> "Moderated":
        if (self.moderation.action == "block") != (self.answer.text is None):
            raise ValueError("answer.text is absent exactly when the output was blocked")
        return self


class JobHeld(JobEvent):
    """A job is held: what it came to is shown to nobody until a person has decided, or what is down works again.

    It is told once for each time that a job comes to be held, and is no end of it.
    """

    stage: Annotated[Name, Field(description="The stage that holds the job.")]
    reason: Annotated[
        ShortText, Field(description="What a person must decide, or which service is down. It quotes no text.")
    ]
    needs_person: Annotated[
        bool, Field(description="True if a person must decide. Otherwise the step is run again by itself.")
    ]


class Unsupported(OutgoingValue):
    """A sentence of the answer that what it was given does not support. Offsets are in characters of the answer."""

    start: Annotated[Count, Field(description="Where the sentence begins.")]
    stop: Annotated[Count, Field(description="Where it ends.")]
    support: Annotated[Unit, Field(description="The probability that it is supported after all.")]
    reason: Annotated[ShortText, Field(description="What speaks against it.")]
    checked: Annotated[
        bool,
        Field(
            description="True if the score counts it: a number, a unit or a name that is nowhere, another matter, a "
            "wrong citation, or a verifier's no. False for a hint, which a criterion with `hints` asks for."
        ),
    ]


class VerifiedSentences(OutgoingValue):
    """A verifier's part in a score of `grounded`. The receipt's `cost` has the cost of its calls, by model."""

    model: Annotated[ShortText, Field(description="The verifier.")]
    provider: Annotated[
        Name | None, Field(description="Whose machine read the sentences; absent for a machine of the deployment.")
    ] = None
    sentences: Annotated[Count, Field(description="The number of sentences that it gave a verdict about.")]
    ms: Annotated[float, Field(ge=0, description="How long its calls took, in milliseconds.")]


class Score(OutgoingValue):
    """The result of a criterion: a value in [0, 1], or the reason why it could not be judged."""

    criterion: Annotated[Name, Field(description="The kind of criterion.")]
    name: Annotated[Label | None, Field(description="The name of the criterion, if it has one.")] = None
    version: Annotated[
        Alias | None, Field(description="The version of a criterion with a name: a digest of its fields.")
    ] = None
    value: Annotated[Unit | None, Field(description="The score; absent if it could not be judged.")] = None
    mass: Annotated[
        Unit | None, Field(description="If a model judged: the total probability of the permitted answers.")
    ] = None
    model: Annotated[Alias | None, Field(description="The model that judged.")] = None
    provider: Annotated[
        Name | None, Field(description="Who runs the machine that judged; absent for your own machines.")
    ] = None
    method: Annotated[
        Literal["probabilities", "answer"] | None,
        Field(description="If a model judged: by probabilities of the permitted answers, or by the answer it wrote."),
    ] = None
    probability: Annotated[
        float | None,
        Field(gt=0, le=1, description="The probability with which the job was drawn; absent if all jobs are judged."),
    ] = None
    not_judged: Annotated[NotJudged | None, Field(description="Why there is no value, as a code.")] = None
    reason: Annotated[ShortText | None, Field(description="Why there is no value, in words.")] = None
    note: Annotated[
        ShortText | None,
        Field(description="A remark on the value, such as that the judge saw a shortened text."),
    ] = None
    unsupported: Annotated[
        tuple[Unsupported, ...] | None,
        Field(max_length=MAX_UNSUPPORTED, description="The sentences that are not supported; only of `grounded`."),
    ] = None
    verified: Annotated[
        VerifiedSentences | None,
        Field(description="What a verifier did, if the deployment has one; only of `grounded`."),
    ] = None

    @model_validator(mode="after")
    def _value_or_reason(self) -> "Score":
        missing = {self.not_judged is None, self.reason is None}
        if missing != {self.value is not None}:
            raise ValueError("a score has either a value, or a code and a reason for its absence")
        return self


class JudgeVerdict(OutgoingValue):
    """A score for each criterion that the job asked for, in its order, and the outcome of its minimum quality."""

    scores: Annotated[tuple[Score, ...], Field(max_length=MAX_CRITERIA, description="One score a criterion.")] = ()
    floor: Annotated[
        QualityFloor | None, Field(description="The outcome of `min_quality`, if the job asked for it.")
    ] = None


class Embedding(OutgoingValue):
    """The vector of a text: float32, little-endian, as base64. Its length is 1."""

    model: Annotated[Alias, Field(description="The embedder's alias.")]
    embedder: Annotated[
        ShortText,
        Field(description="Model, number format and weights. Vectors of different embedders cannot be compared."),
    ]
    dimensions: Annotated[int, Field(ge=1, le=MAX_DIMENSIONS, description="The length of the vector."), INTEGRAL]
    vector: Annotated[Base64, Field(description="The vector.", json_schema_extra={"contentEncoding": "base64"})]
    usage: Annotated[Usage, Field(description="Tokens read, including those that the embedder adds.")]

    @property
    def floats(self) -> tuple[float, ...]:
        """Return the vector as numbers."""
        data = base64.b64decode(self.vector)
        return struct.unpack(f"<{len(data) // 4}f", data)


class Decisions(OutgoingValue):
    """The answers to the questions of a decision job, in their order, the model and the usage."""

    model: _Model
    quantization: _Quantization
    usage: _Usage
    provider: _Provider = None
    returned_model: _ReturnedModel = None
    fingerprint: _Fingerprint = None
    attempts: _Attempts = ()
    because: _Because = None
    recall: _Recall = None
    answers: Annotated[
        tuple[DecisionAnswer, ...],
        Field(max_length=MAX_QUESTIONS, description="One answer a question, in the order of the questions."),
    ]


class Tuned(OutgoingValue):
    """Result of a tuning job: the aliases of the tuned model."""

    model: Annotated[Alias, Field(description="The base: the model that was tuned.")]
    aliases: Annotated[
        tuple[Alias, ...],
        Field(min_length=1, max_length=MAX_QUANTIZATIONS, description="The tuned model, once for each number format."),
    ]
    usage: Annotated[Usage, Field(description="Tokens that were trained, as `prompt_tokens`.")]
    metrics: Annotated[Metrics, Field(description="Figures of the run, such as the held-out loss.")] = {}
    lineage: Annotated[
        Sha256 | None, Field(description="SHA-256 of the lineage: the base, the data, the recipe and the versions.")
    ] = None


class Result(JobEvent):
    """The receipt: the end of a job that was answered. `blocked` means that moderation withheld the text.

    A result of an evaluation job has no answer and no moderation of its own: only the judge's verdict. That of an
    embedding job has its `embedding`; that of a decision job its `decisions`; that of a tuning job `tuned`;
    that of a moderation job, which is `completed` whatever was found, `moderation`.
    """

    status: Annotated[Literal["completed", "blocked"], Field(description="`blocked`: moderation withheld the text.")]
    refusal: Annotated[
        Literal["prompt_blocked"] | None,
        Field(description="Why no model ran: moderation blocked the prompt itself."),
    ] = None
    kind: Annotated[JobKind, Field(description="The kind of job.")]
    idempotency_key: Annotated[str | None, Field(description="The key that came with the job.")] = None
    metadata: Annotated[dict[str, str], Field(description="The data that came with the job.")] = {}
    application: Annotated[
        ApplicationVersion | None,
        Field(description="The version of the application that answered, if the job named an application."),
    ] = None
    answer: Annotated[Answer | None, Field(description="The answer, of a generation job.")] = None
    moderation: Annotated[ModerationVerdict | None, Field(description="The decision of moderation.")] = None
    embedding: Annotated[Embedding | None, Field(description="The vector, of an embedding job.")] = None
    decisions: Annotated[Decisions | None, Field(description="The answers, of a decision job.")] = None
    tuned: Annotated[Tuned | None, Field(description="The tuned model, of a tuning job.")] = None
    # Without a validator: the import would build it.
    judge: Annotated[JudgeVerdict, Field(description="The scores.")] = JudgeVerdict.model_construct()
    seen_by: Annotated[
        tuple[Name, ...],
        Field(
            description="The providers that the text was sent to, by every attempt and every judge, without your own "
            "machines. For an answer from the cache also the provider that made it."
        ),
    ] = ()
    cost: Annotated[Cost | None, Field(description="The cost of all calls of models for the job.")] = None
    accepted_at: Annotated[Time, Field(description="When the job was accepted.")]
    total_ms: Annotated[
        Milliseconds,
        Field(description="Time from acceptance to this receipt."),
    ] = 0.0

    @property
    def made(self) -> Answer | Embedding | Decisions | Tuned | None:
        """Return the part that a model made for the job, with the tokens that it took; None if no model was asked."""
        return next((part for name in MADE_BY_MODELS if (part := getattr(self, name)) is not None), None)

    def parsed(self, model: type[M]) -> M:
        """Return the answer as a value of the pydantic model whose shape the job asked for.

        Raise NoAnswer where there is no text: moderation withheld it, the model abstained or called tools. Raise
        Unparsable where the text is not of the model.
        """
        if self.answer is None or self.answer.text is None:
            why = "moderation withheld its text" if self.status == "blocked" else f"it was a job of kind {self.kind}"
            raise NoAnswer(f"the job {self.job_id} has no answer: {why}")
        if self.answer.finish_reason in ("abstained", "tool_calls"):
            raise NoAnswer(f"the job {self.job_id} has no answer: its finish_reason is {self.answer.finish_reason}")
        return parsed_as(model, self.answer.text)


# The parts of a result that have a usage of their own: one of them says what the job used.
MADE_BY_MODELS: Final = tuple(
    name
    for name, field in Result.model_fields.items()
    if any("usage" in getattr(part, "model_fields", ()) for part in get_args(field.annotation))
)


def made_in(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a result, as JSON has it, that a model made for the job; empty if no model was asked."""
    return next((part for name in MADE_BY_MODELS if (part := result.get(name))), {})


class JobCancelled(JobEvent):
    """The end of a job that was cancelled before it was answered."""

    reason: Annotated[ShortText, Field(description="The reason that came with the cancellation.")] = ""
    cost: Annotated[Cost | None, Field(description="The cost of the calls until then; absent if there was none.")] = (
        None
    )

    def parsed(self, model: type[M]) -> NoReturn:
        """Raise NoAnswer, so that every end of a job can be asked for its answer."""
        raise NoAnswer(f"the job {self.job_id} was cancelled: {self.reason or 'no reason was given'}")


class DeadLetter(OutgoingValue):
    """A job or record that failed for good, the reason, and the original record, so that it can be replayed.

    With a `job_id` it is the end of that job. Without one it tells of a record that never became a job, and ends none:
    `refers_to` is then the id that the job has or would have had, where that can be told, and what the record said of
    itself stands beside it, so that its sender finds it. A corrected record under the same key is a new chance.
    """

    job_id: Annotated[
        JobId | None, Field(description="The job that ended so; absent for a record that was refused.")
    ] = None
    refers_to: Annotated[
        JobId | None, Field(description="For a refused record: the job that it is about, or would have become.")
    ] = None
    tenant: Annotated[Tenant | None, Field(description="The tenant, if it is known.")] = None
    category: Annotated[Category, Field(description="The kind of failure.")]
    code: Annotated[
        EndCode | None, Field(description="The reason, if the job's sender can act on it; absent for other failures.")
    ] = None
    reason: Annotated[ShortText, Field(description="The failure in words.")]
    failure: Annotated[
        Failure | None, Field(description="Why the answer does not have the format that the job asks for.")
    ] = None
    place: Annotated[
        ShortText | None,
        Field(description="Where the answer fails its format: a JSON pointer into it, or a position in characters."),
    ] = None
    stage: Annotated[Name, Field(description="The stage that failed; `ingest` for a refused record.")]
    attempts: Annotated[Count, Field(description="Attempts of the step that failed.")] = 0
    cost: Annotated[Cost | None, Field(description="The cost of a job that called models before it failed.")] = None
    usage: Annotated[
        Usage | None,
        Field(description="Tokens of the last call, where the model counted them and its answer was of no use."),
    ] = None
    accepted_at: Annotated[
        Time | None, Field(description="When the job was accepted; absent for a record that was refused.")
    ] = None
    topic: Annotated[str, Field(description="The topic of the original record.")]
    # The next fields come from a refused record, as far as it could be read.
    partition: Annotated[Count | None, Field(description="Its partition.")] = None
    offset: Annotated[Count | None, Field(description="Its offset.")] = None
    key: Annotated[str | None, Field(description="Its key.")] = None
    ce_id: Annotated[str | None, Field(description="Its `ce_id`.")] = None
    ce_subject: Annotated[str | None, Field(description="Its `ce_subject`.")] = None
    correlationid: Annotated[str | None, Field(description="Its `ce_correlationid`.")] = None
    traceparent: Annotated[str | None, Field(description="Its `ce_traceparent`.")] = None
    size: Annotated[Count, Field(description="The size of the original value in bytes.")]
    original: Annotated[str, Field(description="The value, cut to its first 64 KiB.")]
    encoding: Annotated[Literal["utf-8", "base64"], Field(description="How `original` is written.")]
    truncated: Annotated[bool, Field(description="True if `original` is cut.")] = False

    @property
    def concerns(self) -> str | None:
        """Return the job whose sender waits for this: the job that ended, or that the refused record would have been.

        A refused wish to cancel refers to a job too, and changes nothing for who waits for that.
        """
        return self.job_id or (None if self.topic in ABOUT_JOBS else self.refers_to)

    def parsed(self, model: type[M]) -> NoReturn:
        """Raise Unparsable where the answer did not have its format, and NoAnswer where the job failed otherwise."""
        if self.failure is not None:
            raise Unparsable(self.reason, self.failure, self.place)
        raise NoAnswer(f"the job {self.concerns} failed ({self.category}): {self.reason}")
