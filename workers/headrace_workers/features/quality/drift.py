"""An alarm when fresh labels say that verdicts are wrong more often than they were."""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from headrace_workers.features.cache.calibration.binomial import clopper_pearson_lower, clopper_pearson_upper
from headrace_workers.features.cache.calibration.sequence import (
    LOWER_BETS,
    LOWER_WEIGHTS,
    UPPER_BETS,
    UPPER_WEIGHTS,
    log_value,
)
from headrace_workers.features.quality.clusters import Floats

_PART: Final = 0.5  # of alpha, for the labels from before; the rest is for the fresh ones


@dataclass(frozen=True, slots=True)
class Drift:
    """An alarm (`worse`, `better`) is false in at most a share `alpha` of worlds, however often it is asked for."""

    says: Literal["worse", "better", "none shown"]
    words: str


def drift(before: tuple[int, int], fresh: tuple[int, int], alpha: float = 0.05) -> Drift:
    """Return the drift from the labels before to the fresh ones: how many said that the verdict was wrong, and of how
    many.

    The labels before are fixed (Clopper and Pearson's bounds). Fresh ones may be looked at after each label: their
    bounds hold at all times at once (`calibration.sequence`). Labels are drawn as verdicts come; where some are more
    likely to be drawn, ask for each such stratum by itself. Raises ValueError for impossible counts.
    """
    (was_wrong, had), (wrong, of) = before, fresh
    if not (0 <= was_wrong <= had and 0 <= wrong <= of):
        raise ValueError(f"{before} and {fresh} are no counts of wrong verdicts and of labels")
    side = alpha / 2  # worse, or better
    text = f"{wrong:,} of {of:,} fresh labels say that the verdict is wrong, and {was_wrong:,} of {had:,} did before"
    if not had or not of:
        return Drift("none shown", text)
    part = side * (1 - _PART)
    if wrong / of > was_wrong / had:
        most = clopper_pearson_upper(was_wrong, had, side * _PART)
        # For the lower bound right and wrong change places, as they do in `calibration.sequence`.
        if _above(of - wrong, of, 1.0 - most, part, LOWER_BETS, LOWER_WEIGHTS):
            return Drift("worse", f"Verdicts have become worse: {text}. Calibrate anew, and look at what changed.")
    elif _above(wrong, of, clopper_pearson_lower(was_wrong, had, side * _PART), part, UPPER_BETS, UPPER_WEIGHTS):
        return Drift("better", f"Verdicts have become better: {text}. Calibrate anew.")
    return Drift("none shown", f"No drift is shown: {text}.")


def _above(seen: int, of: int, rate: float, alpha: float, bets: Floats, weights: Floats) -> bool:
    """Return True if this rate lies above the watched upper bound of what was seen so often: its value is refused."""
    value = log_value(np.array([rate]), np.array([float(seen)]), np.array([float(of)]), bets, weights)
    return seen / of < rate and float(value[0]) > -math.log(alpha)
