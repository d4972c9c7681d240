"""The regression of a head is what SciPy's minimizer finds."""

import numpy as np
import pytest

from headrace_workers.features.moderation.head_training import fit


@pytest.mark.parametrize(("rows", "dimensions", "steepness"), [(40, 60, 1.0), (400, 12, 5.0), (1_000, 24, 40.0)])
def test_the_fit_is_scipys(rows: int, dimensions: int, steepness: float) -> None:
    """With fewer rows than dimensions, with noise, and where both kinds lie apart."""
    from scipy.optimize import minimize  # here: else every process of a run imports it

    random = np.random.default_rng(rows)
    vectors = random.normal(size=(rows, dimensions))
    vectors = (vectors / np.linalg.norm(vectors, axis=1)[:, None]).astype(np.float32)
    positive = random.random(rows) < (1 + np.tanh(steepness * (5 * vectors[:, 0] - 1) / 2)) / 2
    sign = np.where(positive, 1.0, -1.0)

    def loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        margins = sign * (vectors.astype(np.float64) @ at[:-1] + at[-1])
        pull = -sign / (1 + np.exp(margins)) / rows
        gradient = np.append(vectors.T.astype(np.float64) @ pull + at[:-1] / (10 * rows), pull.sum())
        return float(np.logaddexp(0, -margins).mean() + at[:-1] @ at[:-1] / (20 * rows)), gradient

    options = {"maxiter": 100_000, "maxfun": 100_000, "ftol": 0.0, "gtol": 1e-11}
    found = minimize(loss, np.zeros(dimensions + 1), jac=True, method="L-BFGS-B", options=options)
    weights, bias = fit(vectors, positive)
    np.testing.assert_allclose([*weights, bias], found.x, atol=1e-6)


def test_there_must_be_rows_of_both_kinds() -> None:
    """Where all labels are the same there is nothing to fit."""
    for same in (True, False):
        with pytest.raises(ValueError, match="both kinds"):
            fit(np.eye(3, dtype=np.float32), np.full(3, same))
