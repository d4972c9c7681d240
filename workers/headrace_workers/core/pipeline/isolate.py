"""Isolation of errors: a step runs over a group so that one task's error stays its own."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from headrace_schemas import Category, HeadraceError
from headrace_workers.core.ledger.outcome import Dead, Outcome, Retry, outcome_of
from headrace_workers.core.log import Action, log
from headrace_workers.core.pipeline.task import Task, Unit

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
