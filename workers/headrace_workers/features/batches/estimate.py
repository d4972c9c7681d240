"""Cost estimates for lines that have not run, from similar ones that have: sums with prediction intervals. Pure.

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
    """A line that ran: the tokens that it might write, the tokens that it wrote, and how long it kept a worker busy
    (ms)."""

    wanted: int
    wrote: int
    busy_ms: float


@dataclass(frozen=True, slots=True)
class Interval:
    """A sum: its expected value, and the bounds that hold it in nine of ten cases."""

    expected: float
    low: float
    high: float

    def over(self, parts: float) -> "Interval":
        """The sum, shared among so many."""
        return Interval(self.expected / parts, self.low / parts, self.high / parts)

    def ends_with(self, last: float) -> "Interval":
        """With an end that may take so long more, or nothing."""
        return Interval(self.expected + last / 2, self.low, self.high + last)


def predicted(
    wanted: Mapping[int, int], ran: Sequence[Ran], of: Callable[[Ran], float], most: float | None = None
) -> Interval | None:
    """Return the total of `of` over the lines, estimated from the lines that `ran`; None if too few ran. `wanted`
    counts lines by the tokens that they may write. No line comes to more than `most` times its tokens.

    If too few lines of a kind ran, its lines may be as long as others, or the same share of their limit: the interval
    holds both.
    """
    if len(ran) < _ENOUGH:
        return None
    by_kind: defaultdict[int, list[Ran]] = defaultdict(list)
    for each in ran:
        by_kind[_kind(each.wanted)].append(each)
    wanted_of: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for tokens, lines in wanted.items():
        if lines > 0:
            wanted_of[_kind(tokens)].append((tokens, lines))
    expected = variance = unsure = 0.0
    fewest = len(ran)
    for kind, lines_of in wanted_of.items():
        like = by_kind[kind]
        mean, spread = _sum(lines_of, like if len(like) >= _ENOUGH else ran, of)
        if len(like) < _ENOUGH:
            other, other_spread = _sum_as_long(lines_of, ran, of, most)
            unsure += abs(mean - other) / 2
            mean, spread = (mean + other) / 2, max(spread, other_spread)
        expected, variance = expected + mean, variance + spread
        fewest = min(fewest, len(like) if len(like) >= _ENOUGH else len(ran))
    margin = unsure + _student(fewest - 1) * math.sqrt(variance)
    ceiling = math.inf if most is None else most * sum(tokens * lines for tokens, lines in wanted.items())
    low = max(0.0, expected - margin)
    return Interval(min(expected, ceiling), min(low, ceiling), min(expected + margin, ceiling))


def _sum(wanted: Sequence[tuple[int, int]], like: Sequence[Ran], of: Callable[[Ran], float]) -> tuple[float, float]:
    """Mean and variance of the sum of lines that take the same share of what they may."""
    mean, spread = _moments([of(each) / each.wanted for each in like])
    total = sum(tokens * lines for tokens, lines in wanted)
    squares = sum(tokens**2 * lines for tokens, lines in wanted)
    return total * mean, spread * (squares + total**2 / len(like))


def _sum_as_long(
    wanted: Sequence[tuple[int, int]], ran: Sequence[Ran], of: Callable[[Ran], float], most: float | None
) -> tuple[float, float]:
    """The same of lines that take as much as others, if they may."""
    total = variance = 0.0
    for tokens, lines in wanted:
        mean, spread = _moments([min(of(each), math.inf if most is None else most * tokens) for each in ran])
        total += lines * mean
        variance += spread * (lines + lines**2 / len(ran))
    return total, variance


def _moments(values: Sequence[float]) -> tuple[float, float]:
    mean = fmean(values)
    return mean, sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def side_by_side(intervals: Sequence[tuple[int, int]]) -> float:
    """Return the average number of groups that ran at a time: `intervals` are (start, end), once a group."""
    total = sum(end - start for start, end in intervals)
    covered, until = 0, -1
    for start, end in sorted(intervals):
        covered += max(0, end - max(start, until))
        until = max(until, end)
    return max(1.0, total / covered) if covered else 1.0


def last_one(longest: float, parallel: float) -> float:
    """Return how long at most other workers may idle while the last group runs: (1 - 1/p) of the longest, which holds
    for every order in which a free worker takes the next (Graham 1966).
    """
    return (1 - 1 / parallel) * longest


def _kind(wanted: int) -> int:
    """As groups are made: longest answers of about the same length."""
    return max(16, 1 << (wanted - 1).bit_length())


def _student(freedom: int) -> float:
    """The two-sided quantile of Student's distribution (Cornish-Fisher, one term)."""
    z = NormalDist().inv_cdf((1 + _NOMINAL) / 2)
    return z + (z**3 + z) / (4 * freedom)
