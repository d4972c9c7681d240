"""A comparison of two variants on the same items.

Differences are taken item by item: what makes an item hard for both drops out (Miller 2024, "Adding error bars to
evals", arXiv 2411.00640). The method depends on what the data bear:

| when | method |
|---|---|
| under 10 clusters with a difference, and some without | Dirichlet: a bootstrap takes the unseen for impossible |
| clusters of several items, 5 to 39 of them | wild cluster bootstrap |
| fewer than 5 clusters of several items | none: the whole span |
| under 100 items | Dirichlet |
| else | t with C − 1 degrees of freedom, variance with C/(C − 1) |

An item without clusters is a cluster by itself.

An interval is for data that are looked at once, when all items are in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from headrace_workers.features.quality.clusters import Clusters, Floats, Ids, numbered, standard_error
from headrace_workers.features.quality.interval import Interval, Undefined
from headrace_workers.features.quality.quantiles import normal_quantile, t_quantile, t_tail
from headrace_workers.features.quality.resampling import dirichlet, wild

LEAST_ITEMS: Final = 100
LEAST_DISCORDANT: Final = 10
FEW_CLUSTERS: Final = 40
FEWEST_CLUSTERS: Final = 5
_POWER: Final = 0.8


@dataclass(frozen=True, slots=True)
class Comparison:
    """B − A in the mean over items. `p` is two-sided, of no difference.

    `detectable` is the smallest true difference that a run of this size finds with a probability of 0.8. `discordant`
    counts items on which the two differ.
    """

    difference: float
    interval: Interval
    p: float
    detectable: float
    items: int
    clusters: int
    discordant: int


def compare(
    a: Floats, b: Floats, clusters: Ids | None = None, span: float = 1.0, level: float = 0.95
) -> Comparison | Undefined:
    """Return the comparison of scores of A and B, one row an item and both in a range of the length `span`.

    The caller leaves out items without a score of both, and reports their number. Raises ValueError where lengths
    differ, a score is not finite, or two differ by more than the span.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} scores of A and {len(b)} of B: each item has one of both")
    if not len(a):
        return Undefined("no item has a score of both")
    difference = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    if not np.isfinite(difference).all():
        raise ValueError("a score is no finite number: leave items out that failed, and tell how many")
    if np.abs(difference).max() > span:
        raise ValueError(f"two scores differ by more than {span:g}: say the span of the scale")
    groups = numbered(clusters, len(a))
    mean = float(difference.mean())
    interval, p = _interval(difference, groups, span, level)
    half = max(interval.high - mean, mean - interval.low)
    quantile = normal_quantile(level)
    # Beyond the end of the interval a true difference must lie by so much that chance takes it back in 1 of 5 only.
    detectable = half * (1 + normal_quantile(2 * _POWER - 1) / quantile)
    discordant = int(np.count_nonzero(difference))
    return Comparison(mean, interval, p, detectable, len(a), groups.count, discordant)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number: in at most a share α of cases any that is at most α is wrong (Holm
    1979).
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(p_values), 0, -1)
    adjusted = np.minimum(1.0, np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factors))
    back = np.empty(len(p_values))
    back[order] = adjusted
    return [float(each) for each in back]


def _interval(difference: Floats, groups: Clusters, span: float, level: float) -> tuple[Interval, float]:
    items, mean = len(difference), float(difference.mean())
    sums, sizes = groups.sums(difference), groups.sums(np.ones(items))
    differing = int((groups.sums(np.abs(difference)) > 0).sum())
    if groups.count < items and groups.count < FEWEST_CLUSTERS:
        return Interval(-span, span, level, f"{groups.count} clusters tell no spread"), 1.0
    if differing < min(LEAST_DISCORDANT, groups.count):  # of six clusters that all differ nothing is unseen
        return dirichlet(sums, sizes, span, level)
    if groups.count < items and groups.count < FEW_CLUSTERS:
        return wild(sums, sizes, span, level)
    if items < LEAST_ITEMS:
        return dirichlet(sums, sizes, span, level)
    error = standard_error((difference - mean) / items, groups)
    if error == 0.0:  # all differ by the same: no spread is seen, and there is some
        return dirichlet(sums, sizes, span, level)
    half = t_quantile(level, groups.count - 1) * error
    interval = Interval(max(-span, mean - half), min(span, mean + half), level, "clustered t")
    return interval, t_tail(mean / error, groups.count - 1)
