"""The pipeline as data. A stage is one line: the topic that it consumes, the step that it runs, the queue it runs on.

To add a stage: write its step in `steps/`, build it in `main.py`, and add its line here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

from headrace_schemas import EvaluationJob, GenerationJob, Topic
from headrace_workers.pipeline.grouping import (
    JUDGE_QUEUE,
    MODERATE_QUEUE,
    Job,
    generate_group,
    judge_model,
    model_queue,
)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a step waits, and with which others it may share a call."""

    queue: str
    group: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A step's name, the topics whose events start it, and where it runs: `route(job, job_id, judge's model)`."""

    name: str
    consumes: tuple[Topic, ...]
    route: Callable[[Job, str, str | None], Route]


def _generate(job: Job, job_id: str, _judge: str | None) -> Route:
    assert isinstance(job, GenerationJob)  # noqa: S101 - only generation jobs are on its topic
    return Route(model_queue(job.model), generate_group(job, job_id))


def _moderate(_job: Job, _job_id: str, _judge: str | None) -> Route:
    return Route(MODERATE_QUEUE, "moderate")


def _judge(job: Job, _job_id: str, judge: str | None) -> Route:
    model = judge_model(job, judge)
    return Route(model_queue(model), f"judge|{model}") if model else Route(JUDGE_QUEUE, "judge")


STAGES: Final = (
    Stage("generate", (Topic.GENERATION,), _generate),
    Stage("moderate", (Topic.OUTPUTS,), _moderate),
    Stage("judge", (Topic.MODERATED, Topic.EVALUATION), _judge),
)


@cache
def stages_after(topic: Topic) -> tuple[Stage, ...]:
    """The stages that an event on this topic starts; none when the topic ends a job."""
    return tuple(stage for stage in STAGES if topic in stage.consumes)


def models_of(job: GenerationJob | EvaluationJob, judge: str | None) -> frozenset[str]:
    """Every model alias that this job needs on its way."""
    own = {job.model} if isinstance(job, GenerationJob) else set()
    rubric = judge_model(job, judge)
    return frozenset(own | ({rubric} if rubric else set()))
