"""What a worker can be asked to be, and what that means: its queues, and the steps it does on each."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.job import Lane
from headrace_workers.pipeline.grouping import JUDGE_QUEUE, MODERATE_QUEUE, model_queue
from headrace_workers.pipeline.isolate import Step
from headrace_workers.pipeline.outcome import Outcome
from headrace_workers.pipeline.task import Task
from headrace_workers.ports import Generator, Moderator
from headrace_workers.steps.generate import generate
from headrace_workers.steps.judge import judge
from headrace_workers.steps.moderate import moderate


class Role(StrEnum):
    """`generate` holds a model, and so also answers the rubrics that ask that model."""

    GENERATE = "generate"
    MODERATE = "moderate"
    JUDGE = "judge"


def roles_of(names: Sequence[str]) -> frozenset[Role]:
    """The roles that these words name; `all` is every one."""
    found: set[Role] = set()
    for name in names:
        if name == "all":
            found |= set(Role)
        elif name in set(Role):
            found.add(Role(name))
        else:
            raise ConfigurationError(f"--role is {name!r}; it may be {', '.join(Role)} or all")
    if not found:
        raise ConfigurationError(f"a worker needs a --role: {', '.join(Role)} or all")
    return frozenset(found)


def queues_of(roles: frozenset[Role], model: str | None) -> list[str]:
    """The queues that a worker of these roles listens to, in the order in which it looks at them.

    What is nearest to its end comes first: a job that was begun is finished before another is.
    """
    if Role.GENERATE in roles and model is None:
        raise ConfigurationError("a worker with the role generate needs a --model")
    names = []
    if Role.JUDGE in roles:
        names.append(JUDGE_QUEUE)
    if Role.MODERATE in roles:
        names.append(MODERATE_QUEUE)
    if Role.GENERATE in roles and model is not None:
        names.append(model_queue(model))
    return names


def steps_of(
    roles: frozenset[Role],
    model: str | None,
    *,
    generator: Callable[[str], Generator],
    moderator: Callable[[], Moderator],
) -> dict[tuple[str, str], Step]:
    """The steps of these roles, by queue and stage. Only what the roles need is loaded."""
    steps: dict[tuple[str, str], Step] = {}
    if Role.GENERATE in roles and model is not None:
        loaded = generator(model)
        steps[model_queue(model), "generate"] = _with_model(generate, loaded)
        steps[model_queue(model), "judge"] = _with_model(judge, loaded)
    if Role.MODERATE in roles:
        steps[MODERATE_QUEUE, "moderate"] = partial(moderate, moderator=moderator())
    if Role.JUDGE in roles:
        steps[JUDGE_QUEUE, "judge"] = partial(judge, generator=None)
    return steps


def _with_model(step: Callable[..., list[Outcome]], generator: Generator) -> Step:
    """A step that asks this model, at once when its group is of the interactive lane. A group is of one lane."""

    def run(tasks: Sequence[Task]) -> list[Outcome]:
        urgent = bool(tasks) and tasks[0].job.lane is Lane.INTERACTIVE
        return step(tasks, generator=generator.urgent if urgent else generator)

    return run
