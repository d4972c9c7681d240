"""Small numbers of labels: too few for a normal approximation, people's labels alone give an exact interval."""

from typing import Final

import numpy as np

from headrace_workers.features.quality.clusters import Clusters, Floats
from headrace_workers.features.quality.detection_rates import clopper_pearson, effective_rows
from headrace_workers.features.quality.interval import Interval

LEAST_LABELS: Final = 100
LEAST_RARE: Final = 10
LEAST_CLUSTERS: Final = 30


def too_few(y: Floats, weights: Floats, clusters: Clusters, span: tuple[float, float]) -> str | None:
    """Return the reason why these labels are too few, or None.

    Of the rarer kind (of what lies between the ends of the span, the part that is nearer to the other end) clusters
    count, and one that stands for many counts for less: (Σ w)² / Σ w² (Kish 1965).
    """
    if len(y) < LEAST_LABELS:
        return f"{len(y):,} labels; {LEAST_LABELS} are needed"
    if np.ptp(y) == 0.0:
        return "all labels are the same"
    if clusters.count < LEAST_CLUSTERS:
        return f"labels of {clusters.count:,} clusters; {LEAST_CLUSTERS} are needed"
    high = (y - span[0]) / (span[1] - span[0])
    rare = min(_effective(weights * high, clusters), _effective(weights * (1.0 - high), clusters))
    if rare < LEAST_RARE:
        return f"about {rare:.0f} labels of the rarer kind; {LEAST_RARE} are needed"
    return None


def conservative(
    y: Floats, weights: Floats, clusters: Clusters, span: tuple[float, float], level: float
) -> tuple[float, Interval]:
    """Return people's weighted mean, with Clopper and Pearson's interval at a cautious number of effective rows.

    A cluster counts as one row, and as many clusters as if each had the weight of the heaviest. The bound is for
    shares; a mean of values inside of the span varies no more than a share does. At level 0.95 it held in 93 % and
    more of simulated worlds (bench `ppi`).
    """
    low, size = span[0], span[1] - span[0]
    part = (y - low) / size
    mean = min(1.0, max(0.0, float(weights @ part / weights.sum())))
    of_cluster = clusters.sums(weights)
    heaviest = float(of_cluster.sum() / of_cluster.max())
    n = max(1.0, min(heaviest, effective_rows(part, weights, clusters, level)))
    found = clopper_pearson(mean, n, level)
    return low + size * mean, Interval(
        low + size * found.low, low + size * found.high, level, "people alone, Clopper–Pearson"
    )


def _effective(values: Floats, clusters: Clusters) -> float:
    sums = clusters.sums(values)
    squares = float(np.square(sums).sum())
    return float(sums.sum()) ** 2 / squares if squares else 0.0
