"""Runs of a batch in which an error of one request stays its own."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from headrace_schemas import HeadraceError
from headrace_schemas.errors import Unavailable
from headrace_workers.core.log import Action, log

S = TypeVar("S")
T = TypeVar("T")


def each(run: Callable[[list[S]], Sequence[T]], batch: list[S]) -> list[T | HeadraceError]:
    """Return the result of `run` for each item, in order.

    When it fails, halve the batch until the culprit stands alone.
    """
    try:
        made = list(run(batch))
        if len(made) != len(batch):
            raise RuntimeError(f"{len(made)} answers came for {len(batch)} requests")
        return [*made]
    except Exception as error:
        if len(batch) == 1:
            return [_failure(error)]
        log("engine", logging.WARNING, Action.STEP_FAILED, f"a batch failed with {type(error).__name__}; halving it",
            rows=len(batch))  # fmt: skip
    half = len(batch) // 2
    return each(run, batch[:half]) + each(run, batch[half:])


def _failure(error: Exception) -> HeadraceError:
    """Return the error of a request for an error of the library. Its text may quote users, so it stays in the log."""
    if isinstance(error, HeadraceError):
        return error
    logging.getLogger("headrace.engine").error("a request failed", exc_info=error, extra={"action": Action.STEP_FAILED})
    return Unavailable(f"the model failed with {type(error).__name__}; see the worker's log")
