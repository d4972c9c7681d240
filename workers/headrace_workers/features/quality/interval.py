"""The result of a statistic: a value with its interval, or the reason why it is undefined.

Never NaN, and never 0 for "unknown".
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """The range that holds the truth in a share `level` of cases, by `method` (in words)."""

    low: float
    high: float
    level: float
    method: str

    @property
    def width(self) -> float:
        """From one end to the other, in the value's own unit."""
        return self.high - self.low

    def holds(self, value: float) -> bool:
        """Return True if the value lies in the interval, ends included."""
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value from `n` rows in `clusters` groups that vary independently of each other (as many as rows, if alone)."""

    value: float
    interval: Interval
    n: int
    clusters: int


@dataclass(frozen=True, slots=True)
class Undefined:
    """There is no such value, and why: a sentence for people."""

    reason: str
