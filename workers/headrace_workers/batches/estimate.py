"""What lines will cost that have not run yet, by what like ones took: sums with prediction intervals. Pure.

A line that may write w tokens writes, or keeps a worker busy for, some share of w; shares of lines with about the same
w are alike. Of n such lines the sum is predicted from m that ran: its variance is that of n more draws and of the mean
of m (Student's prediction interval). Shares are skewed, so the intervals are a little wider than their name says.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

LEVEL = 0.90  # what is promised
_NOMINAL = 0.96  # what is computed
_ENOUGH = 20  # lines of a kind that ran, before they speak for that kind


@dataclass(frozen=True, slots=True)
class Ran:
    """A line that ran: the tokens that it might write, those that it wrote, and how long it kept a worker busy (ms)."""

    wanted: int
    wrote: int
    busy_ms: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A sum: what is expected, and what it lies between in nine of ten cases."""

    expected: float
    low: float
    high: float

    def over(self, parts: float) -> "Interval":
        """The sum, shared among so many."""
        return Interval(self.expected / parts, self.low / parts, self.high / parts)


def predicted(
    wanted: Mapping[int, int], ran: Sequence[Ran], of: Callable[[Ran], float], most: float | None = None
) -> Interval | None:
    """What lines come to together, of which `wanted` says how many may write so many tokens, by what `of` says of those
    that ran. None where too few did. No line comes to more than `most` times its tokens.
    """
    by_kind: defaultdict[int, list[float]] = defaultdict(list)
    for each in ran:
        by_kind[_kind(each.wanted)].append(of(each) / each.wanted)
    everything = [share for shares in by_kind.values() for share in shares]
    if len(everything) < _ENOUGH:
        return None
    asked: defaultdict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])  # by kind: the sum of w, and of its square
    for tokens, lines in wanted.items():
        kind = _kind(tokens)
        kind = kind if len(by_kind[kind]) >= _ENOUGH else 0  # all kinds together speak for it
        asked[kind][0] += lines * tokens
        asked[kind][1] += lines * tokens**2
    expected = variance = 0.0
    fewest = len(everything)
    for kind, (total, squares) in asked.items():
        shares = by_kind[kind] if kind else everything
        mean = fmean(shares)
        spread = sum((share - mean) ** 2 for share in shares) / (len(shares) - 1)
        expected += total * mean
        variance += spread * (squares + total**2 / len(shares))
        fewest = min(fewest, len(shares))
    margin = _student(fewest - 1) * math.sqrt(variance)
    ceiling = math.inf if most is None else most * sum(total for total, _ in asked.values())
    return Interval(expected, max(0.0, expected - margin), min(ceiling, expected + margin))


def side_by_side(intervals: Sequence[tuple[int, int]]) -> float:
    """How many groups ran at a time, on the average of the time in which any did: `intervals` are (start, end), once a
    group.
    """
    total = sum(end - start for start, end in intervals)
    covered, until = 0, -1
    for start, end in sorted(intervals):
        covered += max(0, end - max(start, until))
        until = max(until, end)
    return max(1.0, total / covered) if covered else 1.0


def _kind(wanted: int) -> int:
    """As groups are made: longest answers of about the same length."""
    return max(16, 1 << (wanted - 1).bit_length())


def _student(freedom: int) -> float:
    """The two-sided quantile of Student's distribution (Cornish-Fisher, one term)."""
    z = NormalDist().inv_cdf((1 + _NOMINAL) / 2)
    return z + (z**3 + z) / (4 * freedom)
