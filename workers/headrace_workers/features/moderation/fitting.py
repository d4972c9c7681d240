"""Fits a head: L2-regularised logistic regression for each category by itself, by Newton's method."""

import numpy as np
from numpy.typing import NDArray

_C = 10.0  # of scikit-learn's parameter of this name: vectors have length 1, and little of it is harm
_STEPS = 100
_HALVINGS = 40
_SETTLED = 1e-10  # of the gradient's largest part

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def fit(vectors: NDArray[np.float32], positive: Bools) -> tuple[Floats, float]:
    """Return weights and bias of a logistic regression for rows and labels.

    Raise ValueError where all labels are the same.
    """
    if positive.all() or not positive.any():
        raise ValueError("there must be rows of both kinds")
    rows = np.append(vectors, np.ones((len(vectors), 1)), axis=1).astype(np.float64)
    sign = np.where(positive, 1.0, -1.0)
    ridge = np.full(rows.shape[1], 1.0 / (_C * len(rows)))
    ridge[-1] = 0.0  # the bias is free

    def loss(at: Floats) -> float:
        return float(np.logaddexp(0.0, -sign * (rows @ at)).mean() + 0.5 * ridge @ np.square(at))

    at = np.zeros(rows.shape[1])
    for _ in range(_STEPS):  # of Newton; halved where one would go beyond the valley
        miss = 0.5 * (1.0 - np.tanh(0.5 * sign * (rows @ at)))  # 1 - P(label)
        gradient = ridge * at - rows.T @ (sign * miss) / len(rows)
        if np.abs(gradient).max() < _SETTLED:
            break
        curvature = (rows * (miss * (1.0 - miss) / len(rows))[:, None]).T @ rows + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient)
        share, before = 1.0, loss(at)
        for _ in range(_HALVINGS):
            if loss(at - share * step) <= before:
                break
            share /= 2
        at = at - share * step
    return at[:-1], float(at[-1])
