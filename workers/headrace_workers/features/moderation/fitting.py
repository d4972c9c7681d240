"""Fits a head: L2-regularised logistic regression for each category by itself, by L-BFGS."""

import numpy as np
from numpy.typing import NDArray

_C = 10.0  # of scikit-learn's parameter of this name: vectors have length 1, and little of it is harm

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def fit(vectors: NDArray[np.float32], positive: Bools) -> tuple[Floats, float]:
    """Return weights and bias of a logistic regression for rows and labels.

    Raise ValueError where all labels are the same.
    """
    if positive.all() or not positive.any():
        raise ValueError("there must be rows of both kinds")
    from scipy.optimize import minimize

    rows, sign = vectors.astype(np.float64), np.where(positive, 1.0, -1.0)
    ridge = 1.0 / (_C * len(rows))

    def loss(parameters: Floats) -> tuple[float, Floats]:
        weights, bias = parameters[:-1], parameters[-1]
        margins = sign * (rows @ weights + bias)
        pull = -sign * 0.5 * (1.0 - np.tanh(0.5 * margins)) / len(rows)
        gradient = np.append(rows.T @ pull + ridge * weights, pull.sum())
        return float(np.logaddexp(0.0, -margins).mean() + 0.5 * ridge * weights @ weights), gradient

    found = minimize(loss, np.zeros(rows.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 500})
    return np.asarray(found.x[:-1], dtype=np.float64), float(found.x[-1])
