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
    EVALUATION = "jobs.evaluation", "Jobs that ask the judge about an output made elsewhere."
    EMBEDDING = "jobs.embedding", "Texts whose vector is asked for."
    MODERATION = "jobs.moderation", "Texts that moderation is asked about."
    CANCELLATION = "jobs.cancellation", "Requests to cancel a job."
    REVIEWS = "reviews", "Labels that people give answers, to compare verdicts with."
    OUTPUTS = "outputs", "Answers of models before moderation. Do not show them to users."
    MODERATED = "moderated", "Outputs after moderation."
    HELD = "held", "Jobs that wait for a person, or until what is down works again."
    RESULTS = "results", "The ends of jobs that were answered or cancelled."
    DEAD = "dead", "Jobs and records that failed for good, each with its reason."
    BUDGETS = "budgets", "Budgets of tenants and keys: how much of one is spent."
    POLICIES = "policies", "Moderation policies: that another one holds, or that one is wrong."

    def named(self, prefix: str = DEFAULT_PREFIX) -> str:
        """Return this topic's name in Kafka."""
        return f"{prefix}{self.value}"


# Topics of records about existing jobs, which make none. A refusal of such a record is no end of a job.
ABOUT_JOBS = (Topic.CANCELLATION, Topic.REVIEWS)
INBOUND = (Topic.GENERATION, Topic.EVALUATION, Topic.EMBEDDING, Topic.MODERATION, *ABOUT_JOBS)


def topic_of(name: str, prefix: str = DEFAULT_PREFIX) -> Topic:
    """Return the topic that a Kafka name stands for; ValueError when it is none of ours."""
    if not name.startswith(prefix):
        raise ValueError(f"topic {name!r} does not begin with {prefix!r}")
    return Topic(name[len(prefix) :])
