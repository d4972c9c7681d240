"""Measurements on pairs of questions with known labels: what the cache would serve at each threshold, and how well a
verifier tells the pairs apart.

Everything is pure, but for the calls of the embedder and of the verifier that the caller passes in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace_schemas import HeadraceError
from headrace_workers.features.cache.guards.refusal import Refusal
from headrace_workers.models.verifiers.verifier import Relation, TextPair, Verdict, Verifier
from headrace_workers.stats.binomial import clopper_pearson_upper

THRESHOLDS: Final = tuple(round(0.70 + number / 100, 2) for number in range(30))  # 0.70 to 0.99
ALPHA: Final = 0.05
_EMBEDDED_AT_ONCE: Final = 256
_VERIFIED_AT_ONCE: Final = 8
_RESAMPLES: Final = 2_000
_DRAWN_AT_ONCE: Final = 100  # resamples: so that many sorts of clusters need no gigabytes
_VERIFIER_RESAMPLES: Final = 1_000
_LEVEL: Final = 0.95
_CHANCE: Final = 0.5
_RIGHT: Final = {
    Relation.SAME_QUESTION: "pairs that ask the same",
    Relation.SAME_ANSWER: "pairs that say the same",
    Relation.SUPPORTED: "supported sentences",
}

Floats = NDArray[np.float64]


class LabelledPair(NamedTuple):
    """Two texts of a line (from 1) of a file, and whether a relation holds: `first` is asked and `second` was answered,
    or `second` is a claim about `first`.
    """

    line: int
    first: str
    second: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair with its cosine, and the guard that says that the questions are not the same, if one does."""

    pair: LabelledPair
    similarity: float
    refusal: Refusal | None

    def served(self, threshold: float) -> bool:
        """Return True if the cache would serve the answer at this threshold."""
        return self.similarity >= threshold and self.refusal is None


@dataclass(frozen=True, slots=True)
class Served:
    """The serves of a threshold among all pairs.

    `should` pairs ask the same; `wrong` of the `served` pairs do not. `at_most` is the upper bound of the share of
    wrong answers among the served, at 95 %, for a threshold that was chosen before; `together` holds for all thresholds
    at once.
    """

    threshold: float
    should: int
    served: int
    wrong: int
    at_most: float
    together: float

    @property
    def hits(self) -> int:
        """The number of right answers among the served."""
        return self.served - self.wrong

    @property
    def hit_share(self) -> float | None:
        """The share that is served of what should be; None where nothing should."""
        return self.hits / self.should if self.should else None

    @property
    def wrong_share(self) -> float | None:
        """The share of wrong answers among the served; None where nothing is served."""
        return self.wrong / self.served if self.served else None


def judge(
    pairs: Sequence[LabelledPair],
    embed: Callable[[list[str]], NDArray[np.float32]],
    refuse: Callable[[str, str], Refusal | None],
    advance: Callable[[int], None] = lambda _: None,
) -> list[Judged]:
    """Return each pair with its cosine and refusal.

    `refuse` gets (the question, the other); `advance` gets the number of embedded texts.
    """
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.first, pair.second)))
    blocks = []
    for start in range(0, len(texts), _EMBEDDED_AT_ONCE):
        blocks.append(embed(texts[start : start + _EMBEDDED_AT_ONCE]))
        advance(len(blocks[-1]))
    vectors = np.concatenate(blocks) if blocks else np.empty((0, 0), np.float32)
    row_of = {text: row for row, text in enumerate(texts)}
    return [
        Judged(
            pair,
            min(1.0, float(vectors[row_of[pair.first]] @ vectors[row_of[pair.second]])),
            refuse(pair.first, pair.second),
        )
        for pair in pairs
    ]


def swept(judged: Sequence[Judged], thresholds: Sequence[float] = THRESHOLDS) -> list[Served]:
    """Return the results of each threshold. Raise ValueError without pairs."""
    if not judged:
        raise ValueError("there are no pairs: nothing can be measured")
    cluster = np.array(clusters([decision.pair for decision in judged]))
    differs = np.array([not decision.pair.holds for decision in judged])
    served = np.array([[decision.served(threshold) for threshold in thresholds] for decision in judged])
    wrong, of = (np.zeros((int(cluster.max()) + 1, len(thresholds))) for _ in range(2))
    np.add.at(wrong, cluster, served & differs[:, None])
    np.add.at(of, cluster, served)
    bounds = zip(upper_bounds(wrong, of), upper_bounds(wrong, of, ALPHA / len(thresholds)), strict=True)
    return [
        Served(
            threshold,
            should=int((~differs).sum()),
            served=int(of[:, column].sum()),
            wrong=int(wrong[:, column].sum()),
            at_most=at_most,
            together=together,
        )
        for column, (threshold, (at_most, together)) in enumerate(zip(thresholds, bounds, strict=True))
    ]


def lowest_shown(thresholds: Sequence[Served], max_error: float) -> Served | None:
    """Return the lowest threshold from which on these pairs show at most `max_error`, or None.

    All thresholds are looked at to find it, so the bound is the one that holds for all at once.
    """
    shown = None
    for served in sorted(thresholds, key=lambda served: -served.threshold):
        if served.together <= max_error:
            shown = served
        elif shown is not None:
            break
    return shown


def clusters(pairs: Sequence[LabelledPair]) -> list[int]:
    """Return the cluster of each pair: pairs that share a question, directly or through others, are one."""
    above: dict[str, str] = {}

    def root(text: str) -> str:
        above.setdefault(text, text)
        while above[text] != text:
            above[text] = above[above[text]]
            text = above[text]
        return text

    for pair in pairs:
        above[root(pair.first)] = root(pair.second)
    numbers: dict[str, int] = {}
    return [numbers.setdefault(root(pair.first), len(numbers)) for pair in pairs]


def upper_bounds(wrong: Floats, of: Floats, alpha: float = ALPHA) -> list[float]:
    """Return the one-sided upper bound of each column's share of `wrong` in `of`, at 1 − `alpha`, counted once.

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
    for _ in range(0, _RESAMPLES, _DRAWN_AT_ONCE):
        sums = random.multinomial(len(of), times / len(of), _DRAWN_AT_ONCE) @ sorts
        shares.append(sums[:, : of.shape[1]] / np.maximum(sums[:, of.shape[1] :], 1))
    drawn = np.quantile(np.concatenate(shares), 1 - alpha, axis=0).tolist()
    return [max(one, other) for one, other in zip(exact, drawn, strict=True)]


def upper_bound(clusters: Sequence[tuple[int, int]], alpha: float = ALPHA) -> float:
    """Return the bound for one share; of each cluster, how many were wrong, and of how many."""
    counts = np.array(clusters, dtype=np.float64).reshape(-1, 2)
    return upper_bounds(counts[:, :1], counts[:, 1:], alpha)[0]


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


def measure_verifier(
    verifier: Verifier, pairs: Sequence[LabelledPair], advance: Callable[[int], None] = lambda _: None
) -> VerifierQuality:
    """Ask the verifier about each pair: is the answer to `second` right for `first`?"""
    asked = [TextPair(Relation.SAME_QUESTION, pair.second, pair.first) for pair in pairs]
    return measure_pairs(verifier, asked, [pair.holds for pair in pairs], clusters(pairs), advance)


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
    verdicts: list[Verdict | HeadraceError] = []
    for start in range(0, len(pairs), _VERIFIED_AT_ONCE):
        part = pairs[start : start + _VERIFIED_AT_ONCE]
        verdicts += verifier.verify(part)
        advance(len(part))
    values = np.array([verdict.value if isinstance(verdict, Verdict) else -1.0 for verdict in verdicts])
    holds = np.array([isinstance(verdict, Verdict) and verdict.holds for verdict in verdicts])
    low, high = _interval(values, same, np.array(clusters))
    calls = [verdict.ms for verdict in verdicts if isinstance(verdict, Verdict)]
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
        seconds=float(np.mean(calls)) / 1000 / min(_VERIFIED_AT_ONCE, len(pairs)) if calls else 0.0,
    )


def auroc(values: Floats, same: NDArray[np.bool_]) -> float:
    """Return the probability that one that is `same` has the higher value; a tie counts half."""
    order = np.sort(values[~same])
    below, upto = np.searchsorted(order, values[same], "left"), np.searchsorted(order, values[same], "right")
    return float((below + upto).mean() / 2 / len(order))


def _interval(values: Floats, same: NDArray[np.bool_], of: NDArray[np.int_]) -> tuple[float, float]:
    """Return the interval of the AUROC: whole clusters are drawn, from a fixed seed."""
    random, areas = np.random.default_rng(0), []
    members = [np.flatnonzero(of == cluster) for cluster in range(int(of.max()) + 1)]
    for _ in range(_VERIFIER_RESAMPLES):
        chosen = np.concatenate([members[number] for number in random.integers(0, len(members), len(members))])
        if 0 < same[chosen].sum() < len(chosen):
            areas.append(auroc(values[chosen], same[chosen]))
    tail = (1 - _LEVEL) / 2
    return float(np.quantile(areas, tail)), float(np.quantile(areas, 1 - tail))
