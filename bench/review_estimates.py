"""Review estimates: how often the corrected mean's interval holds the truth where people skip items of a review queue,
by what they could see, and by what nobody could.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.ends import Say
from bench.report import Report, Row, report, row
from headrace_workers.features.quality.assessment import by_subject, corrected_mean, mean_bounds
from headrace_workers.features.quality.store import Sampled, Verdict
from headrace_workers.stats.estimates import Estimate, Interval, t_quantile
from headrace_workers.stats.ppi import Corrected

NAME = "review-estimates"
SETS = 2_000
_QUICK = 50
CRITERION = "helpful"
LOW = 0.5  # answers that score below belong to the rule `low`, the others to `audit`
SHARES = {"low": 0.5, "audit": 0.1}

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class World:
    """Answers whose scores follow Beta(2, 1), so that few are low; a share 0.1 + 0.7 · score of them is right.

    People decide about a share `answered` of the items, by quarter of the scores, and skip the others. Of wrong answers
    they decide about only a share `of_wrong` of these, whatever their score: for a reason that nobody sees.
    """

    name: str
    answered: tuple[float, float, float, float] = (0.8, 0.4, 0.3, 0.9)
    of_wrong: float = 1.0
    items: int = 4_000

    @property
    def truth(self) -> float:
        """The share of right answers among all that there may be."""
        return 0.1 + 0.7 * 2 / 3


SEEN = World("skips depend on stratum and score")
UNSEEN = World("skips depend on quality that nobody saw", of_wrong=0.5)


@dataclass(frozen=True, eq=False, slots=True)
class Answers:
    """Answers of a world, one a row: the machine's score, whether the answer is right, and whether a person who is
    asked decides about it.
    """

    score: Floats
    right: Bools
    decides: Bools

    def rule(self, number: int) -> str:
        """Return the rule to which an answer belongs."""
        return "low" if self.score[number] < LOW else "audit"


def draw(world: World, random: np.random.Generator) -> Answers:
    """Return the answers of one set."""
    score = random.beta(2, 1, world.items)
    right = random.random(world.items) < 0.1 + 0.7 * score
    rate = np.array(world.answered)[np.minimum(3, (score * 4).astype(np.int64))]
    return Answers(score, right, random.random(world.items) < rate * np.where(right, 1.0, world.of_wrong))


def rows(of: Answers, drawn: Sequence[int]) -> tuple[list[Any], list[Verdict], list[Sampled]]:
    """Return labels, verdicts and samples as the ledger has them, where the rules drew these answers."""
    verdicts = [Verdict(str(number), "criterion", CRITERION, "v1", float(s)) for number, s in enumerate(of.score)]
    samples = [
        Sampled(f"item {number}", str(number), of.rule(number), SHARES[of.rule(number)], "skipped") for number in drawn
    ]
    labels = [
        SimpleNamespace(
            job_id=sample.job_id, kind="criterion", about=CRITERION, value=float(of.right[int(sample.job_id)]),
            who="ann", said_at=1, probability=sample.probability, item=sample.item,
        )
        for sample in samples
        if of.decides[int(sample.job_id)]
    ]  # fmt: skip
    return labels, verdicts, samples


def naive(labels: Sequence[Any]) -> Estimate:
    """Return the mean of all labels with Student's interval, as if the labelled answers were drawn evenly."""
    values = np.array([label.value for label in labels])
    half = t_quantile(0.95, len(values) - 1) * float(values.std(ddof=1)) / len(values) ** 0.5
    mean = float(values.mean())
    return Estimate(mean, Interval(mean - half, mean + half, 0.95, "Student's t"), len(values), len(values))


@dataclass(frozen=True, slots=True)
class Found:
    """In what share of sets each interval holds the truth, and means over the sets."""

    covered: float
    bounded: float
    naively_covered: float
    mean: float
    naive_mean: float
    width: float
    bounds_width: float
    labels: float


def found(world: World, sets: int, seed: int = 0) -> Found:
    """Draw that many sets; the same seed draws the same."""
    told = []
    for number in range(sets):
        random = np.random.default_rng((seed, number))
        of = draw(world, random)
        share = np.where(of.score < LOW, SHARES["low"], SHARES["audit"])
        labels, verdicts, samples = rows(of, np.flatnonzero(random.random(world.items) < share).tolist())
        (labelled,) = by_subject(labels, verdicts, samples).values()
        mean, bounds, plain = corrected_mean(labelled), mean_bounds(labelled), naive(labels)
        assert isinstance(mean, Corrected)
        assert bounds is not None
        told.append((
            mean.interval.holds(world.truth), bounds.holds(world.truth), plain.interval.holds(world.truth),
            mean.value, plain.value, mean.interval.width, bounds.width, len(labels),
        ))  # fmt: skip
    return Found(*np.mean(told, axis=0).tolist())


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """2,000 seeded sets of each world; no service is needed, so `embedded` changes nothing."""
    sets, told = _QUICK if quick else SETS, list[Row]()
    for world in (SEEN, UNSEEN):
        say(f"{world.name}: {sets:,} sets")
        of = found(world, sets)
        if world is SEEN:
            told += [
                row(f"{world.name}: truth in the corrected interval, least", of.covered, "share", at_least=0.93),
                row(f"{world.name}: truth in the corrected interval, most", of.covered, "share", at_most=0.97),
            ]
        else:
            told += [row(f"{world.name}: truth in the corrected interval, expected to fail", of.covered, "share")]
        told += [
            row(f"{world.name}: truth in the naive interval of all labels", of.naively_covered, "share"),
            row(f"{world.name}: truth in the bounds (all skipped wrong, all right)", of.bounded, "share",
                at_least=0.95),
            row(f"{world.name}: the truth", world.truth),
            row(f"{world.name}: mean of corrected means", of.mean),
            row(f"{world.name}: mean of naive means", of.naive_mean),
            row(f"{world.name}: mean width of the corrected interval", of.width),
            row(f"{world.name}: mean width of the bounds", of.bounds_width),
            row(f"{world.name}: labels of a set", of.labels),
        ]  # fmt: skip
    return report(NAME, "no service", told)
