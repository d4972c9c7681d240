"""Up to where a share may go that was counted once, where what was counted fails in clusters. Pure."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.cache.calibration.binomial import clopper_pearson_upper

ALPHA: Final = 0.05
_RESAMPLES: Final = 2_000
_AT_ONCE: Final = 100  # resamples: so that many sorts of clusters need no gigabytes

Counts = NDArray[np.float64]


def upper_bounds(wrong: Counts, of: Counts, alpha: float = ALPHA) -> list[float]:
    """Return the one-sided upper bound of each column's share of `wrong` in `of`, at 1 − `alpha`.

    Both have a row for each cluster. The greater of two bounds: Clopper and Pearson's, for which everything counts by
    itself, and a bootstrap that draws whole clusters, since what is about one thing fails together. (Where nothing is
    wrong, the bootstrap says 0.) Of nothing, the share may be anything: 1.
    """
    if not len(of):
        return [1.0] * of.shape[1]
    totals = zip(wrong.sum(axis=0).tolist(), of.sum(axis=0).tolist(), strict=True)
    exact = [clopper_pearson_upper(int(bad), int(total), alpha) for bad, total in totals]
    # Clusters that came to the same are drawn as one that many are of: there are few sorts, however many clusters.
    sorts, times = np.unique(np.concatenate([wrong, of], axis=1), axis=0, return_counts=True)
    random, shares = np.random.default_rng(0), []
    for _ in range(0, _RESAMPLES, _AT_ONCE):
        sums = random.multinomial(len(of), times / len(of), _AT_ONCE) @ sorts
        shares.append(sums[:, : of.shape[1]] / np.maximum(sums[:, of.shape[1] :], 1))
    drawn = np.quantile(np.concatenate(shares), 1 - alpha, axis=0).tolist()
    return [max(one, other) for one, other in zip(exact, drawn, strict=True)]


def upper_bound(clusters: Sequence[tuple[int, int]], alpha: float = ALPHA) -> float:
    """Return the bound for one share; of each cluster, how many were wrong, and of how many."""
    counts = np.array(clusters, dtype=np.float64).reshape(-1, 2)
    return upper_bounds(counts[:, :1], counts[:, 1:], alpha)[0]
