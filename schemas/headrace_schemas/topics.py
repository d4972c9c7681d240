"""The closed set of topics. In Kafka each carries the deployment's prefix: `headrace.jobs.generation`."""

from enum import StrEnum

DEFAULT_PREFIX = "headrace."


class Topic(StrEnum):
    """Where events go in and come out."""

    GENERATION = "jobs.generation"  # GenerationJob: in
    EVALUATION = "jobs.evaluation"  # EvaluationJob: in
    CANCELLATION = "jobs.cancellation"  # CancelJob: in
    OUTPUTS = "outputs"  # Output: what the model wrote, unmoderated
    MODERATED = "moderated"  # Moderated
    RESULTS = "results"  # Result and JobCancelled: the ends of jobs
    DEAD = "dead"  # DeadLetter: the other end

    def named(self, prefix: str = DEFAULT_PREFIX) -> str:
        """This topic's name in Kafka."""
        return f"{prefix}{self.value}"


INBOUND = (Topic.GENERATION, Topic.EVALUATION, Topic.CANCELLATION)


def topic_of(name: str, prefix: str = DEFAULT_PREFIX) -> Topic:
    """The topic that a Kafka name stands for; ValueError when it is none of ours."""
    if not name.startswith(prefix):
        raise ValueError(f"topic {name!r} does not begin with {prefix!r}")
    return Topic(name[len(prefix) :])
