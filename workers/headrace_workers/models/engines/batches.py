"""Batches of prompts: cut by length, run so that an error of one request stays its own, and run again for rows that
their grammars have stopped.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from headrace_schemas import HeadraceError, Sampling
from headrace_schemas.errors import Unavailable
from headrace_workers.core.log import Action, log
from headrace_workers.models.engines.constrained import ConstrainedRow
from headrace_workers.models.engines.engine import Placement
from headrace_workers.models.engines.prefixes import NONE, Beginning, common
from headrace_workers.models.engines.slots import Slots
from headrace_workers.models.generator import never

S = TypeVar("S")
T = TypeVar("T")

_KEPT_BYTES: Final = 128 * 1024 * 1024  # of the logits that a batch keeps
_READ_BYTES: Final = 512 * 1024 * 1024  # of the logits of the positions that it reads
_APART: Final = 32  # tokens by which the rows of a batch are longer than its shortest, together: these cost a step each
_WORTH_SHARING: Final = 64  # tokens that prompts begin with: these prompts have batches of their own


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


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A request that can run. `limit` is max_tokens, clipped to the room that the context leaves."""

    index: int
    tokens: list[str]
    limit: int
    sampling: Sampling
    beginning: Beginning = NONE
    given_up: Callable[[], bool] = never
    constrained: ConstrainedRow | None = None
    tenant: str | None = None

    @property
    def ids(self) -> list[int]:
        """The tokens that the answer has before it runs: only one that a grammar constrains has some."""
        return self.constrained.row.ids if self.constrained else []

    @property
    def length(self) -> int:
        """The number of tokens that a run begins with."""
        return len(self.tokens) + len(self.ids)

    @property
    def is_over(self) -> bool:
        """True if the answer is constrained, and gets no further token."""
        return self.constrained is not None and self.constrained.ended

    @property
    def is_compiled(self) -> bool:
        """True if it can run: its grammar, if it has one, is compiled, or has failed."""
        return self.constrained is None or self.constrained.start()

    @property
    def is_seeded(self) -> bool:
        """True if a seed decides the answer."""
        return self.sampling.seed is not None and self.sampling.temperature > 0

    @property
    def runs_alone(self) -> bool:
        """True if other rows would have to wait for its grammar."""
        return self.constrained is not None and self.constrained.is_slow

    @property
    def choice_key(self) -> tuple[float | None, ...]:
        """The way in which tokens are chosen: requests with the same key may share a batch.

        All greedy ones do, since they ignore top_p and top_k.
        """
        sampling = self.sampling
        if sampling.temperature == 0:
            return (0.0, 1.0, 1, sampling.repetition_penalty)
        return (sampling.temperature, sampling.top_p, sampling.top_k, sampling.repetition_penalty)


def next_rerun(
    stopped: Sequence[Prompt], *, vocabulary_size: int, max_tokens: int, max_rows: int, workers: int
) -> list[Prompt]:
    """Return those of the stopped rows that go on next together; the first of all alone if it `runs_alone`.

    They choose tokens in one way. If enough begin as the first does, only these are taken.
    """
    first = stopped[0]
    if first.runs_alone:
        return [first]
    alike = [prompt for prompt in stopped if not prompt.runs_alone and _may_share_a_batch(first, prompt)]
    sharing = [prompt for prompt in alike if _begins_as(first, prompt)]
    alike = sharing if len(sharing) > 1 else alike
    shared = len(shared_beginning(alike, [prompt.tokens for prompt in alike]))
    plan = plan_batches(
        [prompt.length - shared for prompt in alike],
        max_tokens=min(max_tokens, _READ_BYTES // (4 * vocabulary_size)),
        max_rows=max_rows,
        workers=workers,
        max_steps=_APART,
    )
    return [alike[index] for index in max(plan, key=len)]


def steps_of(prompts: Sequence[Prompt], vocabulary_size: int) -> int:
    """Return how many tokens each of these rows may get in one run that keeps its logits."""
    lengths = [prompt.length for prompt in prompts]
    read = sum(lengths) - len(lengths) * min(lengths)  # step by step: what is longer than the shortest
    return max(1, (_KEPT_BYTES // (4 * vocabulary_size) - read) // len(prompts))


def shared_beginning(prompts: Sequence[Prompt], written: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the tokens that all of `written` begin with, short of the last of each; none if tenants differ."""
    if len({prompt.tenant for prompt in prompts}) > 1:
        return ()
    shared = tuple(min(written, key=len)[:-1])
    for tokens in written:
        shared = common(shared, tokens)
    return shared


def _may_share_a_batch(first: Prompt, other: Prompt) -> bool:
    """Return True if tokens are chosen in one way, and a beginning that is kept for one is kept for the other."""
    is_kept = first.beginning.kept or other.beginning.kept
    return first.choice_key == other.choice_key and (not is_kept or first.beginning is other.beginning)


def _begins_as(first: Prompt, other: Prompt) -> bool:
    alike = first.tokens[:_WORTH_SHARING] == other.tokens[:_WORTH_SHARING]
    return alike and first.tenant == other.tenant and len(first.tokens) > _WORTH_SHARING


class PromptBatches:
    """Batches of prompts, as large as the model's placement can run, and cut finer while slots are free."""

    def __init__(self, placement: Placement, slots: Slots, vocabulary_size: int) -> None:
        self._placement = placement
        self._slots = slots
        self._vocabulary_size = vocabulary_size

    def plan(self, prompts: Sequence[Prompt], max_steps: int | None = None) -> list[list[Prompt]]:
        """Return batches of prompts that may all run together. `max_steps` is that of `plan_batches`."""
        plan = plan_batches(
            [prompt.length for prompt in prompts],
            max_tokens=self._placement.batch_tokens,
            max_rows=self._placement.batch_rows,
            workers=max(1, self._slots.free),
            max_steps=max_steps,
        )
        return [[prompts[index] for index in batch] for batch in plan]

    def of(self, prompts: Sequence[Prompt], max_steps: int | None = None) -> Iterable[list[Prompt]]:
        """Yield batches of any prompts.

        Requests of one call mostly agree in how tokens are chosen, and in what they begin with; the engine takes one of
        each a batch.
        """
        groups: dict[tuple[object, int, int], list[Prompt]] = {}
        for prompt in prompts:
            # CTranslate2 takes the tokens by which a prompt is longer than the shortest of its batch for the answer's,
            # the end token among them: a penalty is right only among prompts of one length.
            length = 0 if prompt.sampling.repetition_penalty == 1 else len(prompt.tokens)
            groups.setdefault((prompt.choice_key, id(prompt.beginning), length), []).append(prompt)
        for group in groups.values():
            yield from self.plan(group, max_steps)

    def next_rerun(self, stopped: Sequence[Prompt], workers: int) -> list[Prompt]:
        """Return those of the stopped prompts that go on next together."""
        return next_rerun(
            stopped,
            vocabulary_size=self._vocabulary_size,
            max_tokens=self._placement.batch_tokens,
            max_rows=self._placement.batch_rows,
            workers=workers,
        )
