"""The probability of an answer's first token, for a few answers that are asked about. Pure, but for numpy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def first_tokens(
    choices: Sequence[str], encode: Callable[[str], list[int]], decode: Callable[[list[int]], str]
) -> list[list[int]]:
    """Return the ids that each choice may begin with: its own first token, and that of the choice after a space.

    A first token that is blank is shared by all words and left out: digit by digit, " 3" is a space and then a 3.
    ValueError when two choices share one, or when a choice has none.
    """
    owners: dict[int, str] = {}
    found: list[list[int]] = []
    for choice in choices:
        heads = {ids[0] for text in (choice, f" {choice}") if (ids := encode(text)) and decode(ids[:1]).strip()}
        if not heads:
            raise ValueError(f"the choice {choice!r} has no first token that says anything")
        for head in heads:
            if head in owners:
                raise ValueError(
                    f"the choices {owners[head]!r} and {choice!r} begin with the same token: they cannot be told apart"
                )
            owners[head] = choice
        found.append(sorted(heads))
    return found


def mass(logits: "np.ndarray[Any, np.dtype[np.float32]]", ids: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Return the softmax of the logits (vocabulary,) over the whole vocabulary, summed over each list of ids."""
    weights = np.exp(logits.astype(np.float64) - float(logits.max()))
    total = float(weights.sum())
    return tuple(float(weights[list(group)].sum()) / total for group in ids)
