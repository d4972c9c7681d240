"""Batches of prompts: cut by length, and run so that an error of one request stays its own."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from headrace_schemas import HeadraceError
from headrace_schemas.errors import Unavailable
from headrace_workers.core.log import Action, log

S = TypeVar("S")
T = TypeVar("T")


def plan_batches(
    lengths: Sequence[int], *, max_tokens: int, max_rows: int, workers: int, max_steps: int | None = None
) -> list[list[int]]:
    """Return batches of indexes into `lengths`: neighbours in length together, the longest batch first.

    A batch holds at most `max_rows` prompts and `max_tokens` tokens with padding; a prompt above that stands alone.
    With several `workers` the work is cut finer, so that none idles: the last to finish sets the time.

    CTranslate2 forwards only the shortest prompt's length at once; what longer ones have beyond it is decoded step by
    step, in company of the shorter ones' answers. `max_steps` bounds the sum of those steps over a batch, each row's
    first answer token included: it is what a caller pays for who keeps the logits of every step.
    """
    if not lengths:
        return []
    rows = min(max_rows, -(-len(lengths) // workers))
    batches: list[list[int]] = []
    batch: list[int] = []
    steps = 0
    # From the longest down: the first of a batch sets its padding.
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        # Every row gains what the new shortest prompt leaves to be stepped through.
        grown = steps + len(batch) * (lengths[batch[-1]] - lengths[index]) + 1 if batch else 1
        if batch and (
            len(batch) == rows
            or (len(batch) + 1) * lengths[batch[0]] > max_tokens
            or (max_steps is not None and grown > max_steps)
        ):
            batches.append(batch)
            batch, grown = [], 1
        batch.append(index)
        steps = grown
    batches.append(batch)
    return batches


def isolate_failures(run: Callable[[list[S]], Sequence[T]], batch: list[S]) -> list[T | HeadraceError]:
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
    return isolate_failures(run, batch[:half]) + isolate_failures(run, batch[half:])


def _failure(error: Exception) -> HeadraceError:
    """Return the error of a request for an error of the library. Its text may quote users, so it stays in the log."""
    if isinstance(error, HeadraceError):
        return error
    logging.getLogger("headrace.engine").error("a request failed", exc_info=error, extra={"action": Action.STEP_FAILED})
    return Unavailable(f"the model failed with {type(error).__name__}; see the worker's log")
