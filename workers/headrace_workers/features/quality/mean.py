"""The mean of scores in [0, 1], with an interval that fits them.

| when | method |
|---|---|
| all are 0 or 1 | Wilson's, at the effective number of rows |
| under 100 clusters, or no spread is seen | Wilson's too: a mean of values in between varies less than a share |
| else | t with C − 1 degrees of freedom, variance with C/(C − 1) |
"""

import numpy as np

from headrace_workers.features.quality.clusters import Floats, Ids, numbered, standard_error
from headrace_workers.features.quality.comparison import LEAST_ITEMS
from headrace_workers.features.quality.detection_rates import at_effective, effective_rows, wilson
from headrace_workers.features.quality.interval import Estimate, Interval, Undefined
from headrace_workers.features.quality.quantiles import t_quantile


def mean(scores: Floats, clusters: Ids | None = None, level: float = 0.95) -> Estimate | Undefined:
    """Return the mean of one score an item.

    It is Undefined without one. Raise ValueError for a score outside of [0, 1], or NaN.
    """
    rows = len(scores)
    if not rows:
        return Undefined("no item has a score")
    if not ((scores >= 0.0) & (scores <= 1.0)).all():
        raise ValueError("a score lies outside of 0 to 1: leave items out that have none, and tell how many")
    groups, value = numbered(clusters, rows), float(scores.mean())
    whole = bool(((scores == 0.0) | (scores == 1.0)).all())
    error = standard_error((scores - value) / rows, groups)
    if whole or groups.count < LEAST_ITEMS or error == 0.0:
        n = effective_rows(scores, np.ones(rows), groups, level)
        method = f"Wilson{at_effective(n, rows)}" + ("" if whole else ", as if all or nothing")
        return Estimate(value, wilson(value, n, level, method), rows, groups.count)
    half = t_quantile(level, groups.count - 1) * error
    interval = Interval(max(0.0, value - half), min(1.0, value + half), level, "clustered t")
    return Estimate(value, interval, rows, groups.count)
