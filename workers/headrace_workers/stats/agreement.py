"""Agreement of two or many raters: raw, beyond chance (Cohen's κ), and with missing labels (Krippendorff's α).

κ and α are both 1 − seen disagreement / disagreement by chance. Their intervals come from the delta method on the
logarithm of that ratio, summed by cluster, with Student's quantile. Where nobody disagrees, the lower end is Clopper
and Pearson's; each label that nobody agreed on adds an imagined row where both gave it.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from headrace_workers.stats.binomial import clopper_pearson_upper
from headrace_workers.stats.detection_rates import share
from headrace_workers.stats.estimates import (
    Clusters,
    Estimate,
    Floats,
    Ids,
    Interval,
    Undefined,
    numbered,
    standard_error,
    t_quantile,
    weights_of,
)

Distance = Literal["nominal", "linear", "quadratic"]
Scale = Literal["nominal", "ordinal", "interval"]
MOST_CATEGORIES = 200  # a table of all pairs of them is kept


@dataclass(frozen=True, eq=False, slots=True)
class _Disagreement:
    """Disagreement seen and by chance, each row's part in either (sums to zero), and the most that two labels can
    differ.

    The given rows come first, then a row for each label that nobody agreed on.
    """

    seen: float
    chance: float
    seen_by_row: Floats
    chance_by_row: Floats
    most: float


def raw_agreement(
    first: NDArray[np.generic],
    second: NDArray[np.generic],
    probability: Floats | None = None,
    clusters: Ids | None = None,
    level: float = 0.95,
) -> Estimate | Undefined:
    """Return the share of rows with the same label, with Wilson's interval.

    It is high for any raters where one label is rare.
    """
    _same_length(first, second)
    return share(np.asarray(first == second), probability, clusters, level=level)


def kappa(
    first: NDArray[np.generic],
    second: NDArray[np.generic],
    distance: Distance = "nominal",
    probability: Floats | None = None,
    clusters: Ids | None = None,
    level: float = 0.95,
) -> Estimate | Undefined:
    """Return Cohen's κ (1960) of two raters of the same rows; weighted (1968) by linear or quadratic distance of
    numbers.

    1 is the same everywhere, 0 what their habits alone would give. The error is that of Fleiss, Cohen and Everitt
    (1969) where rows are independent. Undefined where both always say one and the same.
    """
    _same_length(first, second)
    rows = len(first)
    if not rows:
        return Undefined("there are no rows")
    values, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    if (apart := _apart(values, distance)) is None:
        return Undefined("both gave every row the same label: there is no disagreement that chance could have made")
    a, b = places[:rows], places[rows:]
    weights = weights_of(probability, rows)
    weights = weights / weights.sum()
    of_a = np.bincount(a, weights, len(values))
    of_b = np.bincount(b, weights, len(values))
    by_chance_a, by_chance_b = apart @ of_b, apart @ of_a  # how far a label is from the other's, drawn by habit
    seen, chance = float(weights @ apart[a, b]), float(of_a @ apart @ of_b)
    alone = np.setdiff1d(np.arange(len(values)), a[a == b])
    a, b, weights = np.append(a, alone), np.append(b, alone), np.append(weights, np.full(len(alone), 1 / rows))
    disagreement = _Disagreement(
        seen,
        chance,
        weights * (apart[a, b] - seen),
        weights * (by_chance_a[a] + by_chance_b[b] - 2 * chance),
        float(apart.max()),
    )
    return _beyond_chance(disagreement, numbered(clusters, rows), rows, level)


def alpha(
    labels: Floats, scale: Scale = "nominal", clusters: Ids | None = None, level: float = 0.95
) -> Estimate | Undefined:
    """Return Krippendorff's α. `labels` has a row an item and a column a person, NaN where somebody did not label.

    By nominal, ordinal or interval distance (Krippendorff 2011, "Computing Krippendorff's alpha-reliability"). Items
    with fewer than two labels tell nothing, and are left out. For the ordinal scale the interval takes the distances
    between ranks as given. Undefined where no two labels can be compared, or all are the same.
    """
    given = ~np.isnan(labels)
    paired = given.sum(axis=1) >= 2
    if not paired.any():
        return Undefined("no item has two labels")
    groups = numbered(clusters, len(labels)).among(paired)
    rated, given = labels[paired], given[paired]
    if np.ptp(rated[given]) == 0.0:
        return Undefined("all labels are the same: there is no disagreement that chance could have made")
    disagreement = _of_numbers(rated, given) if scale == "interval" else _of_categories(rated, given, scale)
    return _beyond_chance(disagreement, groups, len(rated), level)


def _of_categories(rated: Floats, given: NDArray[np.bool_], scale: Scale) -> _Disagreement:
    values = np.unique(rated[given])
    _few(values)
    counts = np.stack([(rated == value).sum(axis=1) for value in values], axis=1).astype(np.float64)  # (items, values)
    of_item, of_value = counts.sum(axis=1), counts.sum(axis=0)
    apart = _ranks_apart(of_value) if scale == "ordinal" else 1.0 - np.eye(len(values))
    n = of_item.sum()
    seen_in = ((counts @ apart) * counts).sum(axis=1) / (of_item - 1)
    far = apart @ of_value / n  # of each value, from one drawn from all labels
    alone = np.flatnonzero((counts < 2).all(axis=0))
    return _of_items(seen_in, counts @ far, of_item, float(apart.max()), 2 * far[alone])


def _of_numbers(rated: Floats, given: NDArray[np.bool_]) -> _Disagreement:
    """Return squared differences, for which sums suffice: Σ_ij (v_i − v_j)² = 2·(m·Σv² − (Σv)²)."""
    centred = np.where(given, rated - rated[given].mean(), 0.0)
    of_item = given.sum(axis=1).astype(np.float64)
    squares = np.square(centred).sum(axis=1)
    seen_in = 2 * (of_item * squares - np.square(centred.sum(axis=1))) / (of_item - 1)
    variance = float(squares.sum() / of_item.sum())
    return _of_items(seen_in, squares + of_item * variance, of_item, float(np.ptp(rated[given]) ** 2), np.zeros(0))


def _of_items(seen_in: Floats, far_in: Floats, of_item: Floats, most: float, imagined: Floats) -> _Disagreement:
    """Return the disagreement of items. `imagined` is the distance of labels that are drawn at random."""
    n = float(of_item.sum())
    seen, drawn = float(seen_in.sum() / n), float(far_in.sum() / n)
    seen_in, far_in = np.append(seen_in, np.zeros(len(imagined))), np.append(far_in, imagined)
    of_item = np.append(of_item, np.full(len(imagined), 2.0))
    chance = drawn * n / (n - 1)  # a label is not drawn against itself
    by_row = 2 * (far_in - of_item * drawn) / n * (n / (n - 1))
    return _Disagreement(seen, chance, (seen_in - of_item * seen) / n, by_row, most)


def _beyond_chance(of: _Disagreement, clusters: Clusters, rows: int, level: float) -> Estimate:
    value = 1.0 - of.seen / of.chance
    if of.seen <= 0.0:
        largest = clopper_pearson_upper(0, clusters.count, (1 - level) / 2)
        low = max(-1.0, 1.0 - largest * of.most / of.chance)
        interval = Interval(low, 1.0, level, "no disagreement seen: Clopper–Pearson's largest")
        return Estimate(value, interval, rows, clusters.count)
    influence = of.seen_by_row / of.seen - of.chance_by_row / of.chance
    error = math.hypot(standard_error(influence[:rows], clusters), float(np.linalg.norm(influence[rows:])))
    if math.isinf(error):
        return Estimate(value, Interval(-1.0, 1.0, level, "one cluster tells no spread"), rows, clusters.count)
    reach = math.exp(min(700.0, t_quantile(level, clusters.count - 1) * error))
    low, high = max(min(-1.0, value), 1.0 - (1.0 - value) * reach), 1.0 - (1.0 - value) / reach
    return Estimate(value, Interval(low, high, level, "delta method, clustered t"), rows, clusters.count)


def _apart(values: NDArray[np.generic], distance: Distance) -> Floats | None:
    """Return how far each pair of labels is apart, at most 1; None for a single label."""
    _few(values)
    if len(values) == 1:
        return None
    if distance == "nominal":
        return 1.0 - np.eye(len(values))
    numbers = values.astype(np.float64)
    far = np.abs(numbers[:, None] - numbers[None, :]) / np.ptp(numbers)
    return np.asarray(far if distance == "linear" else far**2)


def _ranks_apart(of_value: Floats) -> Floats:
    """Return squared distances: the number of labels between two values, with half of either's own."""
    middle = np.cumsum(of_value) - of_value / 2
    return np.asarray(np.square(middle[:, None] - middle[None, :]))


def _few(values: NDArray[np.generic]) -> None:
    if len(values) > MOST_CATEGORIES:
        raise ValueError(
            f"{len(values):,} different labels: {MOST_CATEGORIES} at most are categories, others alpha's interval scale"
        )


def _same_length(first: NDArray[np.generic], second: NDArray[np.generic]) -> None:
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} labels: both must have labelled the same rows")
