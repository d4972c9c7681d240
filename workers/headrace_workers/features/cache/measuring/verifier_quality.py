"""How well a verifier tells pairs of which a relation holds from others. Pure, but for the verifier's calls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_schemas import HeadraceError
from headrace_workers.core.ports import Relation, TextPair, Verdict, Verifier
from headrace_workers.features.cache.measuring.pairs import Pair, clusters

_AT_ONCE: Final = 8
_RESAMPLES: Final = 1_000
_LEVEL: Final = 0.95
_CHANCE: Final = 0.5
_RIGHT: Final = {
    Relation.SAME_QUESTION: "pairs that ask the same",
    Relation.SAME_ANSWER: "pairs that say the same",
    Relation.SUPPORTED: "supported sentences",
}

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VerifierQuality:
    """The quality of a verifier on `pairs` pairs with labels about a relation, of which `silent` got no verdict.

    `auroc` is the probability that a pair of which the relation holds gets the higher value, with its 95 % interval by
    a bootstrap of clusters (pairs that share a text). `confirmed` is the share of these pairs, and `wrongly` of the
    others, that it says yes to. `seconds` is the mean time of a pair.
    """

    verifier: str
    relation: Relation
    pairs: int
    silent: int
    auroc: float
    low: float
    high: float
    confirmed: float
    wrongly: float
    seconds: float

    @property
    def is_chance(self) -> bool:
        """Return True if these pairs do not show that it is better than chance: by its figures, and by its yes or no.
        One that says no to all may order pairs well, and is of no use.
        """
        return not self.low > _CHANCE or self.confirmed <= self.wrongly

    @property
    def sentence(self) -> str:
        """Return all of it in words."""
        return (
            f"{self.verifier}: AUROC {self.auroc:.2f} ({self.low:.2f} to {self.high:.2f}, n = {self.pairs:,}, "
            f"{self.silent:,} without a verdict); it says yes to {self.confirmed:.1%} of the "
            f"{_RIGHT[self.relation]} and to {self.wrongly:.1%} of the others; {self.seconds:.2f} s a pair"
        )


def measure(
    verifier: Verifier, pairs: Sequence[Pair], advance: Callable[[int], None] = lambda _: None
) -> VerifierQuality:
    """Ask the verifier about each pair: is the answer to `other` right for `question`?"""
    asked = [TextPair(Relation.SAME_QUESTION, each.other, each.question) for each in pairs]
    return measure_pairs(verifier, asked, [each.same for each in pairs], clusters(pairs), advance)


def measure_pairs(
    verifier: Verifier,
    pairs: Sequence[TextPair],
    labels: Sequence[bool],
    clusters: Sequence[int],
    advance: Callable[[int], None] = lambda _: None,
) -> VerifierQuality:
    """Ask the verifier about each pair of one relation. A pair without a verdict is refused, and stands below all
    others. Raise ValueError unless there are pairs of both labels.
    """
    same = np.array(labels)
    if same.all() or not same.any():
        raise ValueError(
            f"a verifier is measured on {_RIGHT[pairs[0].relation]} and on others: give some of both labels"
        )
    found: list[Verdict | HeadraceError] = []
    for start in range(0, len(pairs), _AT_ONCE):
        part = pairs[start : start + _AT_ONCE]
        found += verifier.verify(part)
        advance(len(part))
    values = np.array([each.value if isinstance(each, Verdict) else -1.0 for each in found])
    holds = np.array([isinstance(each, Verdict) and each.holds for each in found])
    low, high = _interval(values, same, np.array(clusters))
    calls = [each.ms for each in found if isinstance(each, Verdict)]
    return VerifierQuality(
        verifier=verifier.name,
        relation=pairs[0].relation,
        pairs=len(pairs),
        silent=len(pairs) - len(calls),
        auroc=auroc(values, same),
        low=low,
        high=high,
        confirmed=float(holds[same].mean()),
        wrongly=float(holds[~same].mean()),
        seconds=float(np.mean(calls)) / 1000 / min(_AT_ONCE, len(pairs)) if calls else 0.0,
    )


def auroc(values: Floats, same: NDArray[np.bool_]) -> float:
    """Return the probability that one that is `same` has the higher value; a tie counts half."""
    order = np.sort(values[~same])
    below, upto = np.searchsorted(order, values[same], "left"), np.searchsorted(order, values[same], "right")
    return float((below + upto).mean() / 2 / len(order))


def _interval(values: Floats, same: NDArray[np.bool_], of: NDArray[np.int_]) -> tuple[float, float]:
    """Return the interval of the AUROC: whole clusters are drawn, from a fixed seed."""
    random, drawn = np.random.default_rng(0), []
    members = [np.flatnonzero(of == each) for each in range(int(of.max()) + 1)]
    for _ in range(_RESAMPLES):
        chosen = np.concatenate([members[each] for each in random.integers(0, len(members), len(members))])
        if 0 < same[chosen].sum() < len(chosen):
            drawn.append(auroc(values[chosen], same[chosen]))
    tail = (1 - _LEVEL) / 2
    return float(np.quantile(drawn, tail)), float(np.quantile(drawn, 1 - tail))
