"""The stages of tuning jobs: the data is prepared, a model is trained in segments, compared and published."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from threading import Event
from typing import TYPE_CHECKING, Final

from headrace_schemas import TuningJob
from headrace_workers.core.ledger.outcome import Outcome
from headrace_workers.core.machine import available_memory
from headrace_workers.core.pipeline.stage import Stage, Weight
from headrace_workers.core.pipeline.task import Job, Task

if TYPE_CHECKING:  # bridges know the stages, and tune nothing
    from headrace_workers.features.tuning.tuner import Tuner

ROLE: Final = "tune"
# A week of segments, each of which takes five minutes at most.
_MOST_ROUNDS: Final = 2_016
_LEAST_MEMORY: Final = 1_500_000_000  # bytes


def _step(part: str) -> Callable[..., Sequence[Outcome]]:
    """Return the step that does this part of a run."""

    def step(
        tasks: Sequence[Task], *, tuner: "Tuner", cancelled: Callable[[str], bool], leaving: Event
    ) -> list[Outcome]:
        return [tuner.do(part, task, partial(cancelled, task.job_id), leaving) for task in tasks]

    return step


def _alone(_job: Job, job_id: str) -> str:
    return job_id


def _can_run_here() -> bool:
    """Return True where the extra `tune` is installed, and there is memory for the smallest base."""
    memory = available_memory()
    return find_spec("peft") is not None and (memory is None or memory >= _LEAST_MEMORY)


def _stage(name: str, order: int) -> Stage:
    return Stage(
        name=name,
        order=order,
        takes=(TuningJob,),
        step=_step(name),
        weight=Weight.IO,
        group=_alone,
        needs=("tuner", "cancelled", "leaving"),
        done_by=ROLE,
        apart=_can_run_here,
        most_rounds=_MOST_ROUNDS,
    )


STAGES: Final = (_stage("prepare", 96), _stage("train", 97), _stage("publish", 98))
