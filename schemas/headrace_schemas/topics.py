"""The closed set of topics. In Kafka each carries the deployment's prefix: `headrace.jobs.generation`."""

from enum import StrEnum
from typing import Self

DEFAULT_PREFIX = "headrace."


class Topic(StrEnum):
    """Topic of inbound or outbound events, with a `description` of each."""

    description: str

    def __new__(cls, value: str, description: str = "") -> Self:
        """Return a member by its name without the prefix."""
        topic = str.__new__(cls, value)
        topic._value_ = value
        topic.description = description
        return topic

    GENERATION = "jobs.generation", "Jobs that ask a model for an answer."
    EVALUATION = "jobs.evaluation", "Jobs that ask the judge about an output that was made elsewhere."
    EMBEDDING = "jobs.embedding", "Jobs that ask for the vector of a text."
    MODERATION = "jobs.moderation", "Jobs that ask moderation about a text."
    DECISION = "jobs.decision", "Jobs that ask a model to decide questions with probabilities."
    TUNING = "jobs.tuning", "Jobs that tune a model with examples."
    CANCELLATION = "jobs.cancellation", "Requests to cancel a job."
    REVIEWS = "reviews", "Labels: what people say of answers."
    OUTPUTS = "outputs", "Answers before moderation. Do not show them to anyone."
    MODERATED = "moderated", "Answers after moderation."
    HELD = "held", "Jobs that wait for a person, or for a service that is down."
    RESULTS = "results", "The ends of jobs that were answered or cancelled."
    DEAD = "dead", "Dead letters: jobs and records that failed, with the reason and the original."
    POLICIES = "policies", "Changes of the moderation policy: a new version, or a file that is wrong."
    MODELS = "models", "Changes of models: one failed again and again, or answers again."
    BUDGETS = "budgets", "Budgets of tenants and keys, of which a share is spent."
    APPLICATIONS = "applications", "Labels of applications: one names another version."
    DECIDED = "decided", "Decisions of reviewers. A corrected text is not moderated yet: do not show it to anyone."

    def named(self, prefix: str = DEFAULT_PREFIX) -> str:
        """Return this topic's name in Kafka."""
        return f"{prefix}{self.value}"


# Topics of records about existing jobs, which make none. A refusal of such a record is no end of a job.
ABOUT_JOBS = (Topic.CANCELLATION, Topic.REVIEWS)
_JOBS = (
    Topic.GENERATION, Topic.EVALUATION, Topic.EMBEDDING, Topic.MODERATION, Topic.DECISION, Topic.TUNING
)  # fmt: skip
INBOUND = (*_JOBS, *ABOUT_JOBS)


def topic_of(name: str, prefix: str = DEFAULT_PREFIX) -> Topic:
    """Return the topic that a Kafka name stands for; ValueError when it is none of ours."""
    if not name.startswith(prefix):
        raise ValueError(f"topic {name!r} does not begin with {prefix!r}")
    return Topic(name[len(prefix) :])
