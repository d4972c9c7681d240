"""Batches in which rows go on that their grammars have stopped. Pure.

Each reads its prompt and its answer again, so these are batches of like length, and what their prompts begin with is
computed once. Their memory is bounded: the engine computes logits for every position that it reads, and keeps those of
every step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from headrace_schemas import Sampling
from headrace_workers.core.ports import never
from headrace_workers.features.generation.engines.batching import plan_batches
from headrace_workers.features.generation.engines.constrained import ConstrainedRow
from headrace_workers.features.generation.engines.prefixes import NONE, Beginning, common

_KEPT_BYTES: Final = 128 * 1024 * 1024  # of the logits that a batch keeps
_READ_BYTES: Final = 512 * 1024 * 1024  # of the logits of the positions that it reads
_APART: Final = 32  # tokens by which the rows of a batch are longer than its shortest, together: these cost a step each
_WORTH_SHARING: Final = 64  # tokens that prompts begin with: these prompts have batches of their own


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
    alike = [each for each in stopped if not each.runs_alone and _may_share_a_batch(first, each)]
    sharing = [each for each in alike if _begins_as(first, each)]
    alike = sharing if len(sharing) > 1 else alike
    shared = len(shared_beginning(alike, [each.tokens for each in alike]))
    plan = plan_batches(
        [each.length - shared for each in alike],
        max_tokens=min(max_tokens, _READ_BYTES // (4 * vocabulary_size)),
        max_rows=max_rows,
        workers=workers,
        max_steps=_APART,
    )
    return [alike[index] for index in max(plan, key=len)]


def steps_of(prompts: Sequence[Prompt], vocabulary_size: int) -> int:
    """Return how many tokens each of these rows may get in one run that keeps its logits."""
    lengths = [each.length for each in prompts]
    read = sum(lengths) - len(lengths) * min(lengths)  # step by step: what is longer than the shortest
    return max(1, (_KEPT_BYTES // (4 * vocabulary_size) - read) // len(prompts))


def shared_beginning(prompts: Sequence[Prompt], written: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return the tokens that all of `written` begin with, short of the last of each; none if tenants differ."""
    if len({each.tenant for each in prompts}) > 1:
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
