"""The events: what each is called, the class that it is read into, and the topic that it belongs on.

`EVENTS` are those of the contract. A deployment may have features of its own, which add theirs.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from headrace_schemas.application_events import ApplicationLabelled
from headrace_schemas.budget import BudgetReached
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.events import DeadLetter, JobCancelled, JobEvent, JobHeld, JobKind, Moderated, Output, Result
from headrace_schemas.job import (
    AnyJob,
    CancelJob,
    DecisionJob,
    EmbeddingJob,
    EvaluationJob,
    GenerationJob,
    ModelJob,
    ModerationJob,
    TuningJob,
)
from headrace_schemas.model_events import BreakerClosed, BreakerOpened
from headrace_schemas.policy import PolicyRefused, PolicySwitched
from headrace_schemas.review import Review, ReviewDecided
from headrace_schemas.topics import Topic

Event = (
    AnyJob | CancelJob | Review | Output | Moderated | JobHeld | Result | JobCancelled | DeadLetter | PolicySwitched
    | PolicyRefused | BreakerOpened | BreakerClosed | BudgetReached | ApplicationLabelled | ReviewDecided
)  # fmt: skip


class EventType(NamedTuple):
    """Type of event. `name` is its CloudEvents type; ingest refuses an event on a topic that is not its own.

    `example` is for an event that a feature adds; `examples.py` has the examples of the contract.
    """

    name: str
    cls: type[Event] | type[JobEvent]
    topic: Topic
    example: JobEvent | None = None

    @property
    def description(self) -> str:
        """Return a description in one line: the first line of its class's docstring."""
        return (self.cls.__doc__ or "").strip().splitlines()[0]


# The number in a name is the version of its schema: a breaking change gets a new one.
EVENTS: Final = (
    EventType("headrace.job.generation.v1", GenerationJob, Topic.GENERATION),
    EventType("headrace.job.evaluation.v1", EvaluationJob, Topic.EVALUATION),
    EventType("headrace.job.embedding.v1", EmbeddingJob, Topic.EMBEDDING),
    EventType("headrace.job.moderation.v1", ModerationJob, Topic.MODERATION),
    EventType("headrace.job.decision.v1", DecisionJob, Topic.DECISION),
    EventType("headrace.job.tuning.v1", TuningJob, Topic.TUNING),
    EventType("headrace.job.cancel.v1", CancelJob, Topic.CANCELLATION),
    EventType("headrace.review.v1", Review, Topic.REVIEWS),
    EventType("headrace.output.v1", Output, Topic.OUTPUTS),
    EventType("headrace.moderated.v1", Moderated, Topic.MODERATED),
    EventType("headrace.job.held.v1", JobHeld, Topic.HELD),
    EventType("headrace.result.v1", Result, Topic.RESULTS),
    EventType("headrace.job.cancelled.v1", JobCancelled, Topic.RESULTS),
    EventType("headrace.dead.v1", DeadLetter, Topic.DEAD),
    EventType("headrace.budget.reached.v1", BudgetReached, Topic.BUDGETS),
    EventType("headrace.policy.switched.v1", PolicySwitched, Topic.POLICIES),
    EventType("headrace.policy.refused.v1", PolicyRefused, Topic.POLICIES),
    EventType("headrace.breaker.opened.v1", BreakerOpened, Topic.MODELS),
    EventType("headrace.breaker.closed.v1", BreakerClosed, Topic.MODELS),
    EventType("headrace.application.labelled.v1", ApplicationLabelled, Topic.APPLICATIONS),
    EventType("headrace.review.decided.v1", ReviewDecided, Topic.DECIDED),
)
_BY_NAME: Final = {event_type.name: event_type for event_type in EVENTS}
_BY_CLASS: Final[dict[type, EventType]] = {event_type.cls: event_type for event_type in EVENTS}

# As the ledger and receipts name a job's kind.
_KINDS: Final[dict[type[Event], JobKind]] = {
    GenerationJob: "generation",
    EvaluationJob: "evaluation",
    EmbeddingJob: "embedding",
    ModerationJob: "moderation",
    DecisionJob: "decision",
    TuningJob: "tuning",
}
MODEL_KINDS: Final = tuple(kind for cls, kind in _KINDS.items() if issubclass(cls, ModelJob))  # of jobs with a chain
_BY_KIND: Final[dict[str, EventType]] = {kind: _BY_CLASS[cls] for cls, kind in _KINDS.items()}


def add_types(types: Iterable[EventType]) -> None:
    """Add the event types of a feature; ConfigurationError where one has another's name or no example."""
    for added in types:
        if added.example is None:
            raise ConfigurationError(f"the event type {added.name} has no example; give it one")
        if _BY_NAME.setdefault(added.name, added) != added:
            raise ConfigurationError(f"two event types have the name {added.name}; give each its own")
        _BY_CLASS[added.cls] = added


def known_types() -> tuple[EventType, ...]:
    """Return all event types: the contract's, then the features'."""
    return tuple(_BY_NAME.values())


def kind_of(job: AnyJob) -> JobKind:
    """Return the kind of this job as the ledger and receipts name it."""
    return _KINDS[type(job)]


def job_type(kind: str) -> EventType | None:
    """Return the event type of the jobs of this kind, if there is one."""
    return _BY_KIND.get(kind)


def type_named(name: str) -> EventType | None:
    """Return the event type of this name, if there is one."""
    return _BY_NAME.get(name)


def type_of(event: Event) -> str:
    """Return the CloudEvents type of an event."""
    return _BY_CLASS[type(event)].name


def topic_for(event: Event) -> Topic:
    """Return the topic that an event is published to."""
    return _BY_CLASS[type(event)].topic


def types_on(topic: Topic) -> list[EventType]:
    """Return the events that belong on a topic."""
    return [event_type for event_type in known_types() if event_type.topic is topic]
