"""Running a batch so that one request's trouble stays its own."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from headrace_schemas import HeadraceError
from headrace_schemas.errors import Unavailable
from headrace_workers.core.log import Action, log

S = TypeVar("S")
T = TypeVar("T")


def each(run: Callable[[list[S]], Sequence[T]], batch: list[S]) -> list[T | HeadraceError]:
    """What `run` makes of each item, in order. When it fails, the batch is halved until the culprit stands alone."""
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
    """What an error of the library means for its request. Its text may hold users' words: that stays in the log."""
    if isinstance(error, HeadraceError):
        return error
    logging.getLogger("headrace.engine").error("a request failed", exc_info=error, extra={"action": Action.STEP_FAILED})
    return Unavailable(f"the model failed with {type(error).__name__}; see the worker's log")
