"""What a statistic says: a value with its interval, or why there is none. Never NaN, and never 0 for "unknown"."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the truth lies, in a share `level` of worlds, by `method` (said in words)."""

    low: float
    high: float
    level: float
    method: str

    @property
    def width(self) -> float:
        """From one end to the other, in the value's own unit."""
        return self.high - self.low

    def holds(self, value: float) -> bool:
        """Whether the value lies in it, ends included."""
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
