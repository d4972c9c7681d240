"""Serves and wrong serves at each threshold. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from headrace_workers.features.cache.measuring.clustered_bounds import ALPHA, upper_bounds
from headrace_workers.features.cache.measuring.pairs import Judged, clusters

THRESHOLDS: Final = tuple(round(0.70 + number / 100, 2) for number in range(30))  # 0.70 to 0.99


@dataclass(frozen=True, slots=True)
class Served:
    """The serves of a threshold among all pairs, by the cosine alone or with the guards.

    `hits` of `should` pairs that are the same were served, and `wrong` of `served` are not the same. The upper bounds
    hold at 95 % for this threshold, if it was chosen before; `together` does so for all thresholds at once.
    """

    threshold: float
    guarded: bool
    looked: int
    should: int
    served: int
    wrong: int
    of_served_at_most: float
    of_all_at_most: float
    together: float

    @property
    def hits(self) -> int:
        """The served that are right."""
        return self.served - self.wrong

    @property
    def hit_share(self) -> float | None:
        """Of what should be served; None where nothing should."""
        return _share(self.hits, self.should)

    @property
    def wrong_of_served(self) -> float | None:
        """None where nothing is served."""
        return _share(self.wrong, self.served)

    @property
    def wrong_of_all(self) -> float | None:
        """Of all look-ups, the misses too: what some call the error rate, and it hides what users see."""
        return _share(self.wrong, self.looked)


@dataclass(frozen=True, slots=True)
class Refused:
    """The refusals of a guard among pairs that are near enough: right ones, since the questions differ, and wrong
    ones.
    """

    guard: str
    rightly: int
    wrongly: int


def swept(judged: Sequence[Judged], thresholds: Sequence[float] = THRESHOLDS) -> list[Served]:
    """Return the results of each threshold, first by the cosine alone and then with the guards."""
    if not judged:
        raise ValueError("there are no pairs: nothing can be measured")
    ways = [(threshold, guarded) for guarded in (False, True) for threshold in thresholds]
    cluster = np.array(clusters([each.pair for each in judged]))
    differs = np.array([not each.pair.same for each in judged])
    served = np.array([[each.served(least, guarded=guarded) for least, guarded in ways] for each in judged])
    size = int(cluster.max()) + 1
    wrong, of, looked = (np.zeros((size, len(ways))) for _ in range(3))
    np.add.at(wrong, cluster, served & differs[:, None])
    np.add.at(of, cluster, served)
    np.add.at(looked, cluster, np.ones_like(served))
    bounds = zip(
        upper_bounds(wrong, of),
        upper_bounds(wrong, looked),
        upper_bounds(wrong, of, ALPHA / len(thresholds)),
        strict=True,
    )
    return [
        Served(
            threshold=threshold,
            guarded=guarded,
            looked=len(judged),
            should=int((~differs).sum()),
            served=int(of[:, column].sum()),
            wrong=int(wrong[:, column].sum()),
            of_served_at_most=one,
            of_all_at_most=all_,
            together=together,
        )
        for column, ((threshold, guarded), (one, all_, together)) in enumerate(zip(ways, bounds, strict=True))
    ]


def lowest_shown(found: Sequence[Served], max_error: float) -> Served | None:
    """Return the lowest threshold with the guards from which on these pairs show at most `max_error`, or None.

    All thresholds are looked at to find it, so the bound is the one that holds for all at once.
    """
    shown = None
    for each in sorted((each for each in found if each.guarded), key=lambda each: -each.threshold):
        if each.together <= max_error:
            shown = each
        elif shown is not None:
            break
    return shown


def refusals(judged: Sequence[Judged], threshold: float) -> list[Refused]:
    """Return the refusals of guards among pairs whose cosine would do; guards that refused most come first."""
    near = [each for each in judged if each.similarity >= threshold and each.refusal is not None]
    by_guard = Counter((each.refusal.guard, each.pair.same) for each in near if each.refusal is not None)
    names = {guard for guard, _ in by_guard}
    return sorted(
        (Refused(name, by_guard[name, False], by_guard[name, True]) for name in names),
        key=lambda each: (-each.rightly - each.wrongly, each.guard),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
