"""The verdict of a comparison, in words: which variant is better, or how many more items it would take to tell."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from headrace_workers.features.quality.comparison import Comparison, holm

_TOO_MANY: Final = 10_000_000
# An estimate lies on the wrong side of its expected value in half of all runs. (1.960 + 0.842) / 1.960: quantiles of
# the normal distribution for a 95 % interval and 80 % power.
_POWER_80: Final = 1.43


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict about B. `more_items` is None where it is decided already, or where no number of items would decide."""

    says: Literal["better", "worse", "same", "unknown"]
    words: str
    p: float
    more_items: int | None = None


def verdicts(
    comparisons: Sequence[Comparison], margin: float, names: Sequence[tuple[str, str]] | None = None
) -> list[Verdict]:
    """Return a verdict for each comparison of a run, with Holm's correction over all of them.

    `names` are the names of A and B.

    `margin` is the smallest difference that matters, fixed before the run; two variants whose difference is surely
    smaller are the same. Intervals are not corrected.
    """
    named = [("A", "B")] * len(comparisons) if names is None else names
    adjusted = holm([each.p for each in comparisons])
    return [_verdict(each, p, margin, *pair) for each, p, pair in zip(comparisons, adjusted, named, strict=True)]


def _verdict(of: Comparison, p: float, margin: float, a: str, b: str) -> Verdict:
    within = -margin < of.interval.low and of.interval.high < margin
    # Both must say it: p and interval are of one method, but an interval by draws may differ from it in the last digit.
    if p <= 1 - of.interval.level and not of.interval.holds(0.0):
        better = of.difference > 0
        small = f", less than the {_figure(margin)} that would matter" if within else ""
        words = f"{b} is {'better' if better else 'worse'} by {_difference(of, abs(of.difference))}{small}"
        return Verdict("better" if better else "worse", words, p)
    if within:
        return Verdict("same", f"{a} and {b} differ by less than {_figure(margin)}: {_difference(of)}", p)
    text = f"cannot tell: {_difference(of)}"
    if not of.interval.holds(0.0):
        return Verdict("unknown", f"{text}; with so many comparisons, chance alone may do that", p)
    more = _more_items(of, margin)
    if more is None:
        return Verdict("unknown", f"{text}; no number of items that can be had would tell", p)
    return Verdict("unknown", f"{text}; needs about {more:,} more items", p, more)


def _more_items(of: Comparison, margin: float) -> int | None:
    """Return how many more items would decide with 80 % power: the interval excludes 0, or fits within the margin, in
    four of five such runs. The difference that was seen is taken as the true one; the width goes with 1/√n.
    """
    half = max(of.interval.high - of.difference, of.difference - of.interval.low)
    target = max(abs(of.difference), margin - abs(of.difference))
    more = of.items * ((_POWER_80 * half / target) ** 2 - 1) if target > 0 else math.inf
    if more > _TOO_MANY:
        return None
    unit: int = 10 ** max(0, math.floor(math.log10(max(more, 1))) - 1)
    return max(1, math.ceil(more / unit) * unit)


def _difference(of: Comparison, shown: float | None = None) -> str:
    """Return 0.06 ± 0.04, or both ends where they are not equally far."""
    low, high = of.interval.low, of.interval.high
    if shown is not None and of.difference < 0:
        low, high = -high, -low
    value = of.difference if shown is None else shown
    up, down = high - value, value - low
    if _figure(up) == _figure(down):
        return f"{_figure(value)} ± {_figure(up)}"
    return f"{_figure(value)} ({_figure(low)} to {_figure(high)})"


def _figure(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")
