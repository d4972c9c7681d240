"""Calibration of probabilities: a temperature, and a bias of each label."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.stats.minimum import Floats, minimum

_RIDGE: Final = 0.1  # on the squared biases


def fit_temperature(
    logits: Floats, right: NDArray[np.intp], least: float, most: float, *, biased: bool = False
) -> tuple[float, Floats]:
    """Return the temperature, from `least` to `most`, by which logits (rows, labels) are divided so that the right
    labels are likeliest, and the biases that are added then: with `biased` one for each label, whose mean is 0, else 0.
    """
    rows, labels = logits.shape
    logits = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    numbers = np.arange(rows)

    def loss(at: Floats) -> tuple[float, Floats]:
        scaled = at[0] * logits + (at[1:] if biased else 0.0)
        logs = scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True)
        miss = np.exp(logs)
        miss[numbers, right] -= 1.0
        value = _RIDGE / 2 / rows * (at[1:] @ at[1:]) - logs[numbers, right].mean()
        slopes = miss.mean(axis=0) + _RIDGE / rows * at[1:] if biased else at[1:]
        return float(value), np.append((miss * logits).sum() / rows, slopes)

    at = minimum(loss, np.append(1.0, np.zeros(labels if biased else 0)))
    scale, bias = min(max(float(at[0]), 1 / most), 1 / least), at[1:]
    if biased and scale != at[0]:

        def loss_of_bias(bias: Floats) -> tuple[float, Floats]:
            value, slopes = loss(np.append(scale, bias))
            return value, slopes[1:]

        bias = minimum(loss_of_bias, bias)
    return 1 / scale, bias - bias.mean() if biased else bias


def calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 10) -> float:
    """Return the expected calibration error: the mean distance of confidence and accuracy, in bins of as many rows."""
    parts = np.array_split(np.argsort(confidence, kind="stable"), bins)
    return float(sum(abs(confidence[part].sum() - right[part].sum()) for part in parts) / max(1, len(confidence)))
