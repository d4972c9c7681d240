"""Tokens chosen from a model's logits: the draws of a seed.

The engine's own random numbers cannot be set for a model that is loaded: each of its threads seeds itself once. So it
decodes greedily, and at each step this looks at the logits and draws. As long as the draw is the greedy token, the
engine goes on; else the run ends, and the next begins after what was drawn. No weights are loaded, and a seed means
the same whatever ran before, and on every device. It costs a pass over prompt and answer for each draw that is not
the most likely token: with SmolLM2 on a CPU 1.0 to 4 times an unseeded answer of up to 256 tokens.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace_schemas import HeadraceError, Sampling
from headrace_workers.models.engines.stopping import Row, Step, Stopper


class UnusableLogits(HeadraceError):
    """The model's figures are no numbers, so that no token can be drawn from them: its weights are broken."""


class LogitsStep(Step, Protocol):
    """A step of a run that keeps logits."""

    @property
    def logits(self) -> Any:
        """The logits that the token was chosen from, (1, vocabulary); anything that numpy takes."""


class SeededRow:
    """CTranslate2's callback for the runs of one answer: greedy, one row, logits kept. `ids` is what was drawn."""

    def __init__(
        self,
        row: Row,
        sampling: Sampling,
        *,
        vocabulary_size: int,
        end_ids: Sequence[int],
        decode: Callable[[list[int]], str],
    ) -> None:
        self.ended = False
        self._row = row
        self._sampling = sampling
        self._vocabulary_size = vocabulary_size  # a model may have logits for more, as padding
        self._end_ids: Final = frozenset(end_ids)
        self._stopper = Stopper([row], decode)
        self._random = np.random.Generator(np.random.PCG64(sampling.seed))

    @property
    def ids(self) -> list[int]:
        """The tokens of the answer so far."""
        return self._row.ids

    @property
    def left(self) -> int:
        """The number of tokens that the answer may still get."""
        return self._row.limit - len(self._row.ids)

    def __call__(self, step: LogitsStep) -> bool:
        """Draw this step's token; True ends the run."""
        logits = np.array(step.logits, dtype=np.float32).reshape(-1)[: self._vocabulary_size]
        token = draw(self._penalized(logits), self._sampling, self._random.random())
        self.ended = token in self._end_ids or self._stopper.add(0, token)
        return self.ended or token != step.token_id

    def _penalized(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits, with the repetition penalty for tokens that the answer has already."""
        if self._row.ids and (penalty := self._sampling.repetition_penalty or 1) != 1:
            had = np.unique(self._row.ids)
            logits[had] = np.where(logits[had] < 0, logits[had] * penalty, logits[had] / penalty)
        return logits


def draw(
    logits: NDArray[np.float32], sampling: Sampling, point: float, allowed: NDArray[np.bool_] | None = None
) -> int:
    """Return the token that `point`, in [0, 1), falls on: temperature first, then top_k, then top_p, as Transformers
    does, and of what they leave only the tokens that are `allowed`. If they leave none of these, the others are left
    out first. Return the likeliest of the allowed if the temperature is 0.

    `logits` and `allowed` are (vocabulary,). Raises UnusableLogits when one is NaN or none is finite.
    """
    top = logits.max()
    if not np.isfinite(top):
        raise UnusableLogits("the model returned figures that are no numbers: pull or convert it again")
    if sampling.temperature == 0:
        return int((logits if allowed is None else np.where(allowed, logits, -np.inf)).argmax())
    scaled = (logits.astype(np.float64) - top) / sampling.temperature
    weights = np.exp(scaled)
    if sampling.top_k or sampling.top_p < 1:
        weights = _truncated(weights, sampling.top_k or len(weights), sampling.top_p)
    if allowed is not None:
        weights = np.where(allowed, weights, 0.0)
        if not weights.any():
            return draw(np.where(allowed, logits, -np.inf), sampling, point)
    ends = np.cumsum(weights)
    return int(np.searchsorted(ends, point * ends[-1], side="right"))


def _truncated(weights: NDArray[np.float64], top_k: int, top_p: float) -> NDArray[np.float64]:
    """Return the weights of the `top_k` likeliest tokens, and of those the fewest that have `top_p` of the mass; else
    0.
    """
    order = np.argsort(-weights, kind="stable")[:top_k]
    ends = np.cumsum(weights[order])
    kept = order[: int(np.searchsorted(ends, top_p * ends[-1])) + 1]
    truncated = np.zeros_like(weights)
    truncated[kept] = weights[kept]
    return truncated
