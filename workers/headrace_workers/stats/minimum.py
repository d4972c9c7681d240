"""The least value of a smooth convex function, by L-BFGS (Nocedal and Wright 2006, algorithm 7.5)."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

_STEPS: Final = 500
_HALVINGS: Final = 30
_KEPT: Final = 10  # pairs of steps and changes of the gradient
_DESCENT: Final = 1e-4  # of the decrease that the gradient promises
_SETTLED: Final = 1e-9  # of the gradient's largest part

Floats = NDArray[np.float64]


def minimum(function: Callable[[Floats], tuple[float, Floats]], start: Floats, settled: float = _SETTLED) -> Floats:
    """Return the place where a function is least. The function returns its value and its gradient at a place."""
    at, (value, gradient) = start, function(start)
    pairs: list[tuple[Floats, Floats]] = []
    for _ in range(_STEPS):
        if np.abs(gradient).max() < settled:
            break
        way = _way(gradient, pairs)
        for halving in range(_HALVINGS):
            moved = at - 0.5**halving * way
            value_there, gradient_there = function(moved)
            if value_there <= value - _DESCENT * 0.5**halving * float(gradient @ way):
                break
        else:
            break  # rounding hides all further descent
        step, bend = moved - at, gradient_there - gradient
        if step @ bend > 0:
            pairs = [*pairs, (step, bend)][-_KEPT:]
        at, value, gradient = moved, value_there, gradient_there
    return at


def _way(gradient: Floats, pairs: list[tuple[Floats, Floats]]) -> Floats:
    """Return the gradient times the inverse of the curvature, as the pairs show it."""
    if not pairs:
        return gradient
    way, shares = gradient.copy(), []
    for step, bend in reversed(pairs):
        shares.append((step @ way) / (step @ bend))
        way -= shares[-1] * bend
    last, bend = pairs[-1]
    way *= (last @ bend) / (bend @ bend)
    for (step, bend), share in zip(pairs, reversed(shares), strict=True):
        way += step * (share - (bend @ way) / (step @ bend))
    return way
