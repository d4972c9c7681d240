"""A stage of the pipeline as one value: its step, when that is tried again, and how it runs over a group."""

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final, NamedTuple

from headrace_schemas import Category, HeadraceError
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.feature import installed
from headrace_workers.core.ledger.outcome import Dead, Outcome, Retry, outcome_of
from headrace_workers.core.log import Action, log
from headrace_workers.core.pipeline.task import Job, StepEvent, Task, Unit

_SPREAD = 0.1  # of a delay that is named
_DOUBLINGS = 40  # more than reach any longest delay, and few enough for a float


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Delays in seconds that double from `first` to `longest`, with full jitter. `attempts` None: the deployment's.

    With `delays` those, one for each attempt after the first, a tenth more or less.
    """

    first: float = 1.0
    longest: float = 60.0
    attempts: int | None = None
    delays: tuple[float, ...] = ()

    def most(self, deployments: int) -> int:
        """Return how many attempts there are."""
        return len(self.delays) + 1 if self.delays else self.attempts or deployments

    def delay(self, attempt: int, chance: random.Random, least: float = 0.0) -> float:
        """Return the seconds to the next attempt after this one (counted from 1): between zero and a bound that
        doubles.

        Full jitter spreads retries best (Brooker, "Exponential Backoff and Jitter", AWS 2015).
        """
        if self.delays:
            usual = self.delays[min(max(attempt, 1), len(self.delays)) - 1]
            return max(least, usual * chance.uniform(1 - _SPREAD, 1 + _SPREAD))
        bound = min(self.longest, self.first * 2 ** min(max(attempt, 1) - 1, _DOUBLINGS))
        return max(least, chance.uniform(0.0, bound))


MODEL_ROLE: Final = "generate"  # the role of workers that hold a model, for every use of it
EMBEDDER_ROLE: Final = "recall"  # the role of workers that hold an embedder, for every use of it


class Weight(StrEnum):
    """Cost of running a step, which decides how its work is grouped and assigned."""

    MODEL = "model"  # a model runs it: it waits in that model's queue, in groups that fit a time quantum
    LIGHT = "light"  # microseconds a task: groups are large, and what a worker does itself after it is one transaction
    IO = "io"  # it waits for others: groups are large, and nothing waits for it in a transaction
    ENCODER = "encoder"  # an encoder reads: in groups that fit a time quantum, of texts of like length

    @property
    def sized(self) -> bool:
        """Return True if tokens decide how large a group is, and which steps are in it."""
        return self in (Weight.MODEL, Weight.ENCODER)


_MODEL_QUEUE: Final = "model."
_SCHEDULE: Final = RetrySchedule()


def model_queue(alias: str) -> str:
    """Return the queue of the workers that hold this model."""
    return f"{_MODEL_QUEUE}{alias}"


def model_of(queue: str) -> str | None:
    """Return the model that runs what waits in this queue; None when no model does."""
    return queue.removeprefix(_MODEL_QUEUE) if queue.startswith(_MODEL_QUEUE) else None


def always(_job: Job, _event: StepEvent) -> bool:
    """Return True for every job."""
    return True


def no_model(_job_id: str, _job: Job, _default: str | None) -> str | None:
    """Return None: no model is asked."""
    return None


def nothing_shared(_job: Job) -> int | None:
    """Return None: no two prompts share a beginning."""
    return None


def no_chain(_job: Job) -> tuple[str, ...]:
    """Return nothing: no model may answer in place of another."""
    return ()


def every(_job_id: str, _job: Job) -> bool:
    """Return True for every job."""
    return True


def never(_job: Job) -> bool:
    """Return False for every job."""
    return False


class ReadBytes(NamedTuple):
    """Number of bytes that a step reads: of its job as that came, and of the event and the context with it."""

    job: int
    carried: int = 0

    @property
    def total(self) -> int:
        """Return all of them."""
        return self.job + self.carried


def what_it_reads(_job: Job, read: ReadBytes) -> int:
    """Return the bytes that a step reads: no text has more tokens than bytes."""
    return read.total


class FurtherAnswers(NamedTuple):
    """Number of further answers that a stage may ask of a job's model, and about how many tokens describe what is wrong
    with one.
    """

    answers: int = 0
    tokens: int = 0


def no_further_answers(_job: Job) -> FurtherAnswers:
    """Ask for no other answer."""
    return FurtherAnswers()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage of the pipeline.

    An event goes to the first later stage that `takes` its class and whose `when(job, event)` is true. A stage for a
    share of the jobs is skipped by jobs that are not `drawn(job_id, job)`; a stage of a model is also skipped when
    `model(job_id, job, the deployment's judge)` returns None. A failed step is tried again by the schedule `retry`, or
    at once with the next model of `chain(job)`. Steps may share a call if they have the same model and the same
    `group(job, job_id)`; steps with the same `prefix(job)` begin with the same text, and run together where there are
    many of them. `needs` are built once a process and handed to `step` by their names; a
    stage of a model is handed the model as `generator`.

    Where a stage is `optional` for a job, that job passes it over while no worker does it; others wait. `again(job)`
    returns the further cost of the job if this stage asks its model for another answer.

    One run of a model's step reads and writes `most_tokens(job, read)` tokens at most.

    Jobs pass the stages by their `order`, which no two share. Groups that tokens decide about are made to take
    `quantum` seconds. Workers of another role do what is `done_by` that, from a queue of its own. A job that is sent
    back to it more than `most_rounds` times goes round in a circle, and is dead.

    A stage whose groups run for minutes stands `apart`: its workers do nothing else, and all stages of their role have
    one queue. The call returns True where this machine can have such a worker.
    """

    name: str
    order: int
    step: Callable[..., Sequence[Outcome]]
    takes: tuple[type[StepEvent], ...] = ()
    weight: Weight = Weight.LIGHT
    when: Callable[[Job, StepEvent], bool] = always
    drawn: Callable[[str, Job], bool] = every
    model: Callable[[str, Job, str | None], str | None] = no_model
    chain: Callable[[Job], tuple[str, ...]] = no_chain
    group: Callable[[Job, str], str] | None = None
    prefix: Callable[[Job], int | None] = nothing_shared
    needs: tuple[str, ...] = ()
    retry: RetrySchedule = _SCHEDULE
    optional: Callable[[Job], bool] = never
    further_answers: Callable[[Job], FurtherAnswers] = no_further_answers
    most_tokens: Callable[[Job, ReadBytes], int] = what_it_reads
    quantum: float | None = None  # None: as long as the deployment says
    done_by: str | None = None
    concurrency: int = 1
    most_rounds: int = 100
    apart: Callable[[], bool] | None = None

    @property
    def role(self) -> str:
        """Return the role of workers that run this stage."""
        return MODEL_ROLE if self.weight is Weight.MODEL else self.done_by or self.name

    def queue(self, model: str | None = None) -> str:
        """Return the queue in which its steps wait."""
        if self.weight is Weight.MODEL and model is not None:
            return model_queue(model)
        return self.name if self.apart is None else self.role

    def group_of(self, job: Job, job_id: str, model: str | None) -> str:
        """Return the key of the group with which a step may share a call."""
        parts = (self.name, model, self.group(job, job_id) if self.group else None)
        return "|".join(part for part in parts if part is not None)


def in_order(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """Return stages in the order in which jobs pass them; ConfigurationError where two share a name or an order."""
    ordered = tuple(sorted(stages, key=lambda stage: stage.order))
    if len({stage.name for stage in ordered}) < len(ordered):
        raise ConfigurationError("two stages have one name; give each its own")
    for one, next_one in pairwise(ordered):
        if one.order == next_one.order:
            raise ConfigurationError(f"the stages {one.name} and {next_one.name} have the same order, {one.order}")
    return ordered


def installed_stages(settings: Any = None) -> tuple[Stage, ...]:
    """Return the stages of all features in a deployment with these settings, or with none, in their order."""
    return in_order(stage for feature in installed() for stage in feature.stages(settings))


Step = Callable[[Sequence[Any]], Sequence[Outcome]]  # of tasks, or of units


def run_isolated(step: Step, tasks: Sequence[Task | Unit]) -> list[Outcome]:
    """Run the step, and return an outcome for each task. If the step raises, halve the group until the culprit stands
    alone.

    An error that may pass (a service that is away) says nothing about any of the tasks: the group is tried again whole.
    """
    if not tasks:
        return []
    try:
        outcomes = list(step(tasks))
        if len(outcomes) != len(tasks):
            raise RuntimeError(f"the step returned {len(outcomes)} outcomes for {len(tasks)} tasks")
        return outcomes
    except HeadraceError as error:
        if len(tasks) == 1 or error.category.retryable:
            return [outcome_of(error) for _ in tasks]
    except Exception as error:
        if len(tasks) == 1:
            return [unexpected(error)]
        log("run", logging.WARNING, Action.STEP_FAILED, f"a step failed with {type(error).__name__}; halving the group")
    half = len(tasks) // 2
    return run_isolated(step, tasks[:half]) + run_isolated(step, tasks[half:])


def unexpected(error: Exception) -> Retry:
    """Log an error that is handled now and that no step foresees, and return the retry of its task. A model may have
    been asked before it, so the call counts as billed.
    """
    logging.getLogger("headrace.run").exception("a step failed", extra={"action": Action.STEP_FAILED})
    # The text of an unknown error may hold users' words: it goes into the log of this machine, not on a topic.
    return Retry(f"the step failed with {type(error).__name__}; see the worker's log", billed=True)


def unreadable(error: Exception) -> Dead:
    """Return the end of a job whose record in the ledger this version cannot read."""
    return Dead(Category.PERMANENT, f"the ledger's record cannot be read by this version: {error}")
