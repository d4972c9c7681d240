"""Requests of a producer: generation, evaluation, embedding, moderation, decision, tuning and cancellation."""

import uuid
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import InitErrorDetails, PydanticCustomError

from headrace_schemas.application import LedgerResolution, Variables
from headrace_schemas.attributes import Filter
from headrace_schemas.callback import Callback
from headrace_schemas.criteria import Criterion, Pairwise, Rubric
from headrace_schemas.decision import MAX_LABELS, MAX_QUESTIONS, Question, labels_of
from headrace_schemas.grounding import WithoutPassages
from headrace_schemas.limits import (
    FAIL_FAST,
    INTEGRAL,
    MAX_CHAIN,
    MAX_COMPLETION_TOKENS,
    MAX_CRITERIA,
    MAX_DIMENSIONS,
    MAX_MESSAGES,
    MAX_METADATA,
    MAX_STOPS,
    Alias,
    FileId,
    Key,
    ModelName,
    NonEmptyText,
    ShortText,
    Suffix,
    Tenant,
    Text,
    WrittenJobId,
)
from headrace_schemas.message import Message
from headrace_schemas.min_quality import MinQuality
from headrace_schemas.model import Value
from headrace_schemas.output_format import OutputFormat
from headrace_schemas.recall import SECONDS_OF_A_YEAR, CacheMode
from headrace_schemas.times import Time
from headrace_schemas.tool import MAX_CALLS, MAX_TOOLS, NO_TOOLS, NamedTool, Offer, Tool, ToolCall, ToolChoice
from headrace_schemas.tuning import Lora, Quantizations
from headrace_schemas.uuids import Namespace

# Job ids are UUIDv5 in this namespace, so that any language can compute them.
JOB_NAMESPACE = uuid.UUID("6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11")
_JOBS = Namespace(JOB_NAMESPACE)

# One model or application, or several models of which each answers where those before it cannot.
ModelChain = Annotated[
    Annotated[ModelName, Tag("alias")]
    | Annotated[tuple[Alias, ...], Field(min_length=1, max_length=MAX_CHAIN), Tag("chain")],
    Discriminator(lambda value: "chain" if isinstance(value, list | tuple) else "alias"),
]

POLICY_MODEL: Final = "headrace-policy"  # who moderates: the deployment's detectors with its policy


def derive_job_id(tenant: str, key: str) -> str:
    """Return the id of a job: UUIDv5 of `tenant`, a line feed, and the idempotency key (or the event's id without one).

    The tenant is part of the name, so no tenant can collide with, or guess its way into, another's jobs.
    """
    return _JOBS.id_of(f"{tenant}\n{key}")


class Lane(StrEnum):
    """Interactive work is claimed before batch work; batch work has a floor, so that it never starves."""

    INTERACTIVE = "interactive"
    BATCH = "batch"


class Sampling(Value):
    """Sampling of tokens. Temperature 0 is greedy and ignores top_p, top_k and seed."""

    temperature: Annotated[float, Field(ge=0, le=2, description="0 always takes the most likely token.")] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1, description="Sample from the likeliest tokens that sum to this.")] = 1.0
    top_k: Annotated[
        int, Field(ge=0, le=1000, description="Sample from so many likeliest tokens; 0 is no bound."), INTEGRAL
    ] = 0
    max_tokens: Annotated[
        int, Field(ge=1, le=MAX_COMPLETION_TOKENS, description="The longest answer, in tokens."), INTEGRAL
    ] = 256
    stop: Annotated[
        tuple[Annotated[ShortText, Field(min_length=1)], ...],
        Field(max_length=MAX_STOPS, description="The answer ends before the first of these texts."),
        FAIL_FAST,
    ] = ()
    seed: Annotated[
        Annotated[int, Field(ge=0, lt=2**32), INTEGRAL] | None,
        Field(description="Makes sampling repeatable: the same seed draws the same tokens."),
    ] = None
    repetition_penalty: Annotated[
        Annotated[float, Field(gt=0, le=2)] | None,
        Field(
            description="Above 1, tokens that the answer already has become less likely. By default the model's own."
        ),
    ] = None


class Job(Value):
    """Fields that every kind of job carries."""

    tenant: Annotated[
        Tenant, Field(description="The tenant that the job belongs to. Tenants share no ids, and take fair turns.")
    ] = "default"
    idempotency_key: Annotated[
        Key | None,
        Field(description="Your key for this job. Jobs of a tenant under one key are one job."),
    ] = None
    lane: Annotated[Lane, Field(description="Interactive jobs run before batch jobs.")] = Lane.INTERACTIVE
    priority: Annotated[
        int, Field(ge=0, le=9, description="The urgency within the lane; 9 is the most urgent."), INTEGRAL
    ] = 5
    deadline: Annotated[Time | None, Field(description="If there is no answer by then, the job ends as `expired`.")] = (
        None
    )
    metadata: Annotated[
        dict[Key, ShortText], Field(max_length=MAX_METADATA, description="Your own data. It comes back in the result.")
    ] = {}
    callback: Annotated[Callback | None, Field(description="The webhook to call when the job ends.")] = None

    def job_id(self, event_id: str) -> str:
        """Return this job's id, given the id of the event that brought it."""
        return derive_job_id(self.tenant, self.idempotency_key or event_id)


_MaxAge = Annotated[
    float | None,
    Field(gt=0, le=SECONDS_OF_A_YEAR, description="The greatest age of an earlier answer, in seconds."),
]


class ModelJob(Job):
    """Fields of a job that asks a model, or several of which each answers where those before it cannot."""

    model: Annotated[
        ModelChain | None,
        Field(
            description="A model that is served, by its alias; or a list of them, each of which answers where those "
            "before it cannot."
        ),
    ] = None
    fallback_on_refusal: Annotated[
        bool,
        Field(description="True to ask the next model of the chain where a provider's policy withholds its answer."),
    ] = False

    def _check_models(self) -> None:
        if isinstance(self.model, tuple) and len(set(self.model)) < len(self.model):
            raise ValueError("model names a model twice: name each once")

    @property
    def chain(self) -> tuple[str, ...]:
        """Return the models that may answer, in the order in which they are asked."""
        return (self.model,) if isinstance(self.model, str) else self.model or ()

    @property
    def first_model(self) -> str:
        """Return the model that is asked first."""
        return self.model if isinstance(self.model, str) else (self.model or ("",))[0]


class JudgedJob(Job):
    """Fields of a job whose output may be judged."""

    criteria: Annotated[
        tuple[Criterion, ...],
        Field(max_length=MAX_CRITERIA, description="The criteria by which the output is judged."),
        FAIL_FAST,
    ] = ()
    reference: Annotated[Text | None, Field(description="A right answer, for the criteria that compare.")] = None

    other: Annotated[
        Text | None,
        Field(description="Another output, for criteria that compare two outputs. By default the reference."),
    ] = None

    @model_validator(mode="after")
    def _doubts_about_others(self) -> Self:
        if not self.criteria:
            return self
        keys = [criterion.key for criterion in self.criteria]
        always = {
            criterion.key for criterion in self.criteria if criterion.uncertain is None and criterion.share == 1.0
        }
        for criterion in self.criteria:
            if criterion.uncertain is None:
                continue
            about = criterion.uncertain.criterion
            if keys.count(about) != 1 or about not in always:
                raise ValueError(
                    "uncertain.criterion must be the name, or kind, of one other criterion of the job that is always "
                    "judged"
                )
        return self

    @property
    def judge_models(self) -> tuple[str, ...]:
        """Return the judge models that the criteria name, each once, in their order."""
        return tuple(dict.fromkeys(c.model for c in self.criteria if isinstance(c, Rubric | Pairwise) and c.model))

    @property
    def asks_judge(self) -> bool:
        """Return True if a model has to judge."""
        return bool(self.criteria) and any(isinstance(c, Rubric | Pairwise) for c in self.criteria)


def _problem(kind: str | PydanticCustomError, location: tuple[int | str, ...], value: object = None) -> ValidationError:
    """Return the error of one place, which a validator raises where pydantic would name the whole value."""
    details = InitErrorDetails(type=kind, loc=location, input=value)
    return ValidationError.from_exception_data("GenerationJob", [details])


class GenerationJob(ModelJob, JudgedJob):
    """Ask a model for an answer: either `prompt` (one user turn) or `messages` (a conversation)."""

    model: Annotated[
        ModelChain | None,
        Field(
            description="A model that is served, by its alias; or a list of them, each of which answers where those "
            "before it cannot; or an application. There is no default on the wire."
        ),
    ] = None
    application: Annotated[
        ModelName | None,
        Field(
            description="An application, instead of `model`: `NAME`, `NAME@LABEL` or `NAME@VERSION`. Without a label "
            "it is `production`."
        ),
    ] = None
    variables: Annotated[
        Variables, Field(description="The values of the application's variables, by their names.")
    ] = {}
    prompt: Annotated[NonEmptyText | None, Field(description="The prompt: one user turn.")] = None
    messages: Annotated[
        tuple[Message, ...],
        Field(max_length=MAX_MESSAGES, description="The conversation, oldest turn first."),
        FAIL_FAST,
    ] = ()
    sampling: Annotated[Sampling, Field(description="How tokens are sampled.")] = (
        Sampling.model_construct()
    )  # without a validator: the import would build it
    output: Annotated[
        OutputFormat | None,
        Field(
            description="The format that the answer must have, unless it calls a tool. A job whose answer has another "
            "fails, and says why."
        ),
    ] = None
    tools: Annotated[
        tuple[Tool, ...],
        Field(max_length=MAX_TOOLS, description="The tools that the model may call. Nothing is executed."),
        FAIL_FAST,
    ] = ()
    tool_choice: Annotated[
        ToolChoice | None,
        Field(description="Whether the model must call a tool, and which. By default `auto` if there are tools."),
    ] = None
    parallel_tool_calls: Annotated[
        bool | None,
        Field(
            description="Whether one answer may call several tools, which is the default. A named tool is called once."
        ),
    ] = None
    cache: Annotated[
        CacheMode | None, Field(description="Which earlier answers may be served. By default as `HEADRACE_CACHE` says.")
    ] = None
    max_age: _MaxAge = None
    screen: Annotated[
        bool | None,
        Field(description="Whether the prompt is moderated before a model runs. By default as `HEADRACE_SCREEN` says."),
    ] = None
    knowledge: Annotated[
        Alias | None, Field(description="The knowledge base of the tenant that the answer must rest on.")
    ] = None
    knowledge_filter: Annotated[
        Filter | None,
        Field(description="Which documents are searched, by their attributes. By default all. Needs `knowledge`."),
    ] = None
    without_passages: Annotated[
        WithoutPassages | None,
        Field(description="What to do if no passage is relevant enough. By default `abstain`. Needs `knowledge`."),
    ] = None

    min_quality: Annotated[
        MinQuality | None,
        Field(description="The least score by one of the criteria. Such an answer never comes from the cache."),
    ] = None
    resolution: SkipJsonSchema[LedgerResolution] = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "GenerationJob":
        # One validator calls the others where there is something to check: a job is read three times on its way.
        if not isinstance(self.model, str):
            self._check_chain()
        elif self.application is not None:
            raise ValueError("both model and application are given: a job takes one of them")
        if self.tools or self.tool_choice is not None:
            self._check_tools()
        if self.prompt is None and not self.messages and not (self.application or self.variables):
            raise ValueError("neither prompt nor messages is given: a job needs one of them")
        if self.prompt is not None and self.messages:
            raise ValueError("both prompt and messages are given: a job takes one of them")
        if self.knowledge is None and self.knowledge_filter is not None:
            raise ValueError("knowledge_filter is given without knowledge: name the base whose documents it is about")
        if self.knowledge is None and self.without_passages is not None:
            raise ValueError("without_passages is given without knowledge: name the base that passages come from")
        if self.min_quality is not None:
            self._check_floor(self.min_quality)
        return self

    def _check_chain(self) -> None:
        if self.model is None:
            if self.application is None:
                raise _problem("missing", ("model",))
            return
        self._check_models()
        if self.application is not None:
            raise ValueError("both model and application are given: a job takes one of them")
        if self.variables and self.resolution is None:
            raise ValueError("variables are given with a list of models: they are for an application")

    @field_validator("messages")
    @classmethod
    def _results_of_calls(cls, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        called: set[str | None] = {None}
        for place, message in enumerate(messages):
            if message.tool_call_id not in called:
                wrong = PydanticCustomError("no_such_call", "names no call of a turn before it")
                raise _problem(wrong, (place, "tool_call_id"), message.tool_call_id)
            called.update(call.id for call in message.tool_calls)
        return messages

    def _check_tools(self) -> None:
        names = [tool.name for tool in self.tools]
        if len(set(names)) < len(names):
            raise ValueError("tools names a tool twice: name each once")
        if self.tool_choice not in (None, "none") and not self.tools:
            raise ValueError("tool_choice is given without tools")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.name not in names:
            raise ValueError(f"tool_choice names {self.tool_choice.name!r}, which is none of the tools")

    def _check_floor(self, floor: MinQuality) -> None:
        always = [
            criterion.key for criterion in self.criteria if criterion.share == 1.0 and criterion.uncertain is None
        ]
        if [criterion.key for criterion in self.criteria].count(floor.criterion) != 1 or floor.criterion not in always:
            raise ValueError(
                "min_quality.criterion must be the name, or kind, of one of the criteria, by which all jobs are judged"
            )
        if self.cache not in (None, CacheMode.OFF):
            raise ValueError(
                "min_quality is given with cache: an answer with a floor is made anew; leave one of them out"
            )

    @property
    def first_model(self) -> str:
        """Return the model that is asked first; the application, while the job is not resolved."""
        return self.model if isinstance(self.model, str) else (self.model or (self.application or "",))[0]

    @property
    def offer(self) -> Offer:
        """Return the tools that the model may call: none, all, or the one that is named."""
        if not self.tools or self.tool_choice == "none":
            return NO_TOOLS
        if isinstance(self.tool_choice, NamedTool):
            return Offer(tuple(tool for tool in self.tools if tool.name == self.tool_choice.name), required=True)
        required = self.tool_choice == "required"
        most = 1 if self.parallel_tool_calls is False else MAX_CALLS
        return Offer(self.tools, required, beside_format=self.output is not None and not required, most=most)

    def format_of(self, calls: Sequence[ToolCall]) -> OutputFormat | None:
        """Return the format that an answer with these calls must have: none if it calls a tool."""
        return None if calls else self.output

    @property
    def conversation(self) -> tuple[Message, ...]:
        """Return the messages, or the prompt as one user message."""
        return self.messages or (Message(role="user", content=self.prompt or ""),)

    @property
    def question(self) -> str:
        """Return the question as text for a judge to read: the last user turn."""
        if not self.messages:
            return self.prompt or ""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")


class EvaluationJob(JudgedJob):
    """Ask the judge about an output that was made elsewhere."""

    input: Annotated[Text, Field(description="The question or task.")]
    output: Annotated[Text, Field(description="The output to judge.")]
    context: Annotated[Text | None, Field(description="The text that the output must rest on.")] = None
    criteria: Annotated[
        tuple[Criterion, ...],
        Field(min_length=1, max_length=MAX_CRITERIA, description="The criteria by which it is judged."),
        FAIL_FAST,
    ]


class EmbeddingJob(Job):
    """Ask for the vector of one text."""

    model: Annotated[Alias, Field(description="The alias of an embedder that is served.")]
    input: Annotated[
        NonEmptyText,
        Field(description="The text to embed. A text that is longer than the embedder reads is refused, never cut."),
    ]
    dimensions: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_DIMENSIONS,
            description="Keep only so many first dimensions of the vector, scaled to length 1. By default all.",
        ),
        INTEGRAL,
    ] = None


class ModerationJob(Job):
    """Ask what moderation says about a text. The receipt has the verdict, and not the text."""

    input: Annotated[NonEmptyText, Field(description="The text to moderate.")]
    model: Annotated[Alias | None, Field(description=f"`{POLICY_MODEL}`, which you may leave out.")] = None


class DecisionJob(ModelJob):
    """Ask a model questions about one input: it answers each with probabilities, and writes no text."""

    model: Annotated[
        ModelChain,
        Field(
            description="A model that is served, by its alias; or a list of them, each of which answers where those "
            "before it cannot."
        ),
    ]
    input: Annotated[NonEmptyText | None, Field(description="The text that the questions are about.")] = None
    messages: Annotated[
        tuple[Message, ...],
        Field(max_length=MAX_MESSAGES, description="A conversation that the questions are about, instead of `input`."),
        FAIL_FAST,
    ] = ()
    questions: Annotated[
        tuple[Question, ...],
        Field(min_length=1, max_length=MAX_QUESTIONS, description="The questions. Each is answered by itself."),
        FAIL_FAST,
    ]
    cache: Annotated[
        CacheMode | None,
        Field(
            description="Whether earlier answers to the very same request may be served: every mode but `off` does "
            "that alone. By default as `HEADRACE_CACHE` says."
        ),
    ] = None
    max_age: _MaxAge = None
    screen: Annotated[
        bool | None,
        Field(description="Whether the input is moderated before a model runs. By default as `HEADRACE_SCREEN` says."),
    ] = None

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        self._check_models()
        if (self.input is None) == (not self.messages):
            raise ValueError("give either input or messages: the questions are about one of them")
        return self

    @field_validator("questions")
    @classmethod
    def _few_labels(cls, questions: tuple[Question, ...]) -> tuple[Question, ...]:
        names = [question.name for question in questions if question.name is not None]
        if len(set(names)) < len(names):
            raise ValueError("have a name twice: give each its own")
        if (labels := sum(map(labels_of, questions))) > MAX_LABELS:
            raise ValueError(
                f"have {labels:,} choices and levels in all, and {MAX_LABELS:,} at most: send several jobs"
            )
        return questions

    @property
    def conversation(self) -> tuple[Message, ...]:
        """Return the messages, or the input as one user message."""
        return self.messages or (Message(role="user", content=self.input or ""),)


class TuningJob(Job):
    """Tune a model of the catalogue with examples. The tuned model gets an alias of its own."""

    model: Annotated[Alias, Field(description="The alias of the model that learns: the base.")]
    training_file: Annotated[
        FileId, Field(description="The id of an uploaded file of chats, one a line: the examples to learn from.")
    ]
    validation_file: Annotated[
        FileId | None,
        Field(description="Examples that are held out. By default a part of the training file is."),
    ] = None
    suffix: Annotated[Suffix | None, Field(description="A part of the tuned model's alias. By default `tuned`.")] = None
    seed: Annotated[
        Annotated[int, Field(ge=0, lt=2**32), INTEGRAL] | None,
        Field(description="Makes the order of the examples, and the first weights, repeatable. By default 0."),
    ] = None
    epochs: Annotated[
        Annotated[int, Field(ge=1, le=50), INTEGRAL] | None,
        Field(description="How often each example is read. By default headrace chooses."),
    ] = None
    batch_size: Annotated[
        Annotated[int, Field(ge=1, le=1_024), INTEGRAL] | None,
        Field(description="How many examples a step learns from. By default headrace chooses."),
    ] = None
    learning_rate_multiplier: Annotated[
        Annotated[float, Field(gt=0, le=100)] | None,
        Field(description="Multiplies the usual learning rate. By default 1."),
    ] = None
    lora: Annotated[Lora | None, Field(description="The matrices that are trained. By default headrace chooses.")] = (
        None
    )
    quantizations: Annotated[
        Quantizations,
        Field(description="The number formats in which the tuned model is published, each with its own alias."),
    ] = ("int8",)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.quantizations)) < len(self.quantizations):
            raise ValueError("quantizations names a format twice: name each once")
        return self


AnyJob = GenerationJob | EvaluationJob | EmbeddingJob | ModerationJob | DecisionJob | TuningJob


class CancelJob(Value):
    """Ask for a job to be cancelled. It wins when it is taken before the job has ended; else nothing happens."""

    job_id: Annotated[WrittenJobId, Field(description="The job to cancel.")]
    tenant: Annotated[Tenant, Field(description="The job's tenant.")] = "default"
    reason: Annotated[ShortText, Field(description="Why. It stands in the cancelled job's last event.")] = ""
