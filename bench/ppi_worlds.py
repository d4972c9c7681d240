"""Worlds with a biased judge whose truth is known, and how often an interval holds it there."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace_workers.stats.estimates import Interval, Undefined, t_quantile
from headrace_workers.stats.ppi import Corrected, Verdicts, by_item, true_mean

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class World:
    """Items that pass with probability `passes`, and a judge that lets pass `finds` of those and `errs` of the others.

    Items come in clusters of `cluster`, alike by `alike` (the correlation within). About `labels` items are labelled;
    `uneven` labels those that the judge fails four times as often as others. Each labelled item gets `repeats` labels,
    a share `slips` of them wrong. The judge abstains from a share `abstains`.

    With `share` below 1 only so many items are drawn to be judged, and people label some of these; `anywhere` has them
    label items of all kinds, judged or not. A share `doubtful` of the items passes half of the time, and all of these
    are judged: those that another criterion is unsure of.
    """

    name: str
    passes: float = 0.7
    finds: float = 0.95
    errs: float = 0.4
    items: int = 2_000
    labels: int = 100
    cluster: int = 1
    alike: float = 0.0
    uneven: bool = False
    repeats: int = 1
    slips: float = 0.0
    abstains: float = 0.0
    share: float = 1.0
    anywhere: bool = False
    doubtful: float = 0.0

    @property
    def truth(self) -> float:
        """The mean label of a person over all items that there may be."""
        passes = self.passes * (1 - self.doubtful) + 0.5 * self.doubtful
        return passes * (1 - self.slips) + (1 - passes) * self.slips


WORLDS = (  # at least 100 labels, of the rarer kind at least ten
    World("even"),
    World("even, 200 labels", labels=200),
    World("a good judge, 300 labels", finds=0.97, errs=0.02, labels=300),
    World("a judge that guesses", finds=0.6, errs=0.6),
    World("rare passes", passes=0.1, finds=0.8, errs=0.1, labels=200),
    World("uneven", uneven=True, labels=150),
    World("clusters of five", cluster=5, alike=0.3, labels=300),
    World("uneven, clusters of five", cluster=5, alike=0.3, labels=300, uneven=True),
    World("four labels an item", repeats=4, slips=0.1, abstains=0.05),
)
SHARES = (  # only a share of the items is judged
    World("a twentieth is judged, and all of it labelled", share=0.05, items=4_000, labels=200),
    World("a tenth is judged", share=0.1, items=4_000, labels=200),
    World("a quarter is judged", share=0.25, items=4_000, labels=200),
    World("half is judged", share=0.5, items=4_000, labels=200),
    World("a tenth is judged well", finds=0.97, errs=0.05, share=0.1, items=4_000, labels=200),
    World("a tenth is judged, labels of all", share=0.1, items=4_000, labels=200, anywhere=True),
    World("a tenth is judged, and what is doubtful", share=0.1, doubtful=0.1, items=4_000, labels=300),
    World("the same, labels of all", share=0.1, doubtful=0.1, items=4_000, labels=300, anywhere=True),
    World("the same, uneven labels", share=0.1, doubtful=0.1, items=4_000, labels=300, uneven=True),
    World("a tenth is judged, clusters of five", share=0.1, items=8_000, labels=300, cluster=5, alike=0.3),
    World("a tenth is judged, with abstentions", share=0.1, items=4_000, labels=200, abstains=0.05),
)
NEAR = (  # people and judge hardly ever differ: what is imagined then counts, and the interval holds more often
    World("a good judge, 100 labels", finds=0.99, errs=0.02),
    World("a judge without fault", finds=1.0, errs=0.0),
)
FEW = (  # people alone
    World("25 labels", labels=25),
    World("50 labels, nearly all pass", passes=0.95, labels=50),
    World("100 labels, nearly all pass", passes=0.97, labels=100),
    World("50 labels, uneven", labels=50, uneven=True),
    World("100 labels in 20 clusters", cluster=5, alike=0.3),
    World("200 labels, nearly none passes, uneven", passes=0.02, errs=0.1, labels=200, uneven=True),
)


def draw(world: World, random: np.random.Generator) -> Verdicts:
    """One set of verdicts and labels of this world."""
    groups = np.arange(world.items) // world.cluster
    rate = np.full(world.items, world.passes)
    if world.alike:
        size = 1 / world.alike - 1
        rate = random.beta(world.passes * size, (1 - world.passes) * size, groups[-1] + 1)[groups]
    judged = np.full(world.items, world.share)
    if world.doubtful:
        doubtful = random.random(world.items) < world.doubtful
        rate, judged = np.where(doubtful, 0.5, rate), np.where(doubtful, 1.0, judged)
    y = random.random(world.items) < rate
    machine = np.where(random.random(world.items) < np.where(y, world.finds, world.errs), 1.0, 0.0)
    if world.share < 1:
        drawn = random.random(world.items) < judged
        taken, probability = _of_a_share(world, random, machine, drawn, judged)
        machine[~drawn] = np.nan
    else:
        taken, probability = _of_all(world, random, machine, groups)
    labelled = np.repeat(np.flatnonzero(taken), world.repeats)
    labels = (y[labelled] != (random.random(len(labelled)) < world.slips)).astype(np.float64)
    machine[random.random(world.items) < world.abstains] = np.nan
    return Verdicts(
        machine,
        by_item(labels, labelled, world.items),
        probability,
        groups if world.cluster > 1 else None,
        judged=judged if world.share < 1 else None,
    )


def _of_all(world: World, random: np.random.Generator, machine: Floats, groups: Ints) -> tuple[Bools, Floats]:
    """Which items are labelled, whole clusters of them, and with which probability each is."""
    stands_for = np.full(world.items, 1.0)
    if world.uneven:  # a whole cluster is taken by its first item
        stands_for = np.where(machine[groups * world.cluster] == 1.0, 0.25, 1.0)
    probability = np.minimum(1.0, stands_for * world.labels / stands_for.sum())
    if world.uneven:
        return (random.random(groups[-1] + 1) < probability[:: world.cluster])[groups], probability
    chosen = random.permutation(groups[-1] + 1)[: world.labels // world.cluster]
    return np.isin(groups, chosen), probability


def _of_a_share(
    world: World, random: np.random.Generator, machine: Floats, drawn: Bools, judged: Floats
) -> tuple[Bools, Floats]:
    """The same where people label some of what was drawn to be judged, item by item."""
    may = np.ones(world.items) if world.anywhere else drawn.astype(np.float64)
    if world.uneven:
        may = np.where(machine == 1.0, 0.25, 1.0) * may
    chance = np.minimum(1.0, may * world.labels / may.sum())
    return random.random(world.items) < chance, chance if world.anywhere else chance * judged


def raw_interval(verdicts: Verdicts) -> Interval:
    """The judge's own mean, as if it were right."""
    judged = verdicts.machine[~np.isnan(verdicts.machine)]
    half = t_quantile(0.95, len(judged) - 1) * judged.std(ddof=1) / np.sqrt(len(judged))
    return Interval(judged.mean() - half, judged.mean() + half, 0.95, "judge alone")


@dataclass(frozen=True, slots=True)
class Found:
    """In what share of sets each interval held the truth, the mean width, what of it was saved, and who fell back."""

    covered: float
    raw_covered: float
    width: float
    narrower: float
    alone: float


def found(
    world: World, sets: int, seed: int = 0, estimate: Callable[[Verdicts], Corrected | Undefined] = true_mean
) -> Found:
    """Draws that many sets; the same seed draws the same."""

    def each() -> Iterator[tuple[bool, bool, float, float, bool]]:
        for number in range(sets):
            verdicts = draw(world, np.random.default_rng((seed, number)))
            said = estimate(verdicts)
            if isinstance(said, Undefined):  # nobody happened to be labelled: nothing is said
                continue
            raw = raw_interval(verdicts).holds(world.truth)
            yield said.interval.holds(world.truth), raw, said.interval.width, said.narrower, said.reason is not None

    return Found(*np.mean(list(each()), axis=0).tolist())
