"""The assessment of a criterion's verdicts by people's labels of some of them.

Items are jobs. An item's label is the mean of what people said of it; where they contradict each other evenly, it is
neither right nor wrong, and counts for the mean alone. Where there is no number, there is a reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_workers.features.quality.agreement import alpha, kappa, raw_agreement
from headrace_workers.features.quality.clusters import Floats, Ints
from headrace_workers.features.quality.detection_rates import DetectionRates, rates
from headrace_workers.features.quality.drift import Drift, drift
from headrace_workers.features.quality.interval import Estimate, Undefined
from headrace_workers.features.quality.ppi import Corrected, Verdicts, by_item, true_mean
from headrace_workers.features.quality.reliability import Reliability, reliability

_HALF: Final = 0.5
_DEGREES: Final = Undefined("labels say how far, not yes or no")
_UNEVEN: Final = Undefined(
    "some labels say with which probability their jobs were drawn, and others do not: give it with all, or with none"
)

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class Labelled:
    """All verdicts of one kind, and the labels of some.

    `machine` has a row an item, NaN where there is no verdict. Of each label: `item` is the row, `value` from 0 to 1,
    `who` a number for each person, `said_at` when (ms), and `probability` that with which its item was drawn, or NaN.
    `judged` has a row an item, too: with which probability it was drawn to be judged; None where all are.
    `not_judged` counts items without a verdict by the code of the reason, where that is known.
    """

    machine: Floats
    item: Ints
    value: Floats
    who: Ints
    said_at: Ints
    probability: Floats
    judged: Floats | None = None
    not_judged: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assessment:
    """The results of an assessment.

    `contested` counts items that people disagree about; `among_people` is Krippendorff's α.

    `rates` are of a verdict of yes against labels of yes; `mean` is the true mean over all items.
    """

    labels: int
    items_labelled: int
    people: int
    verdicts: int
    both: int
    contested: int
    not_judged: Mapping[str, int]
    agreement: Estimate | Undefined
    kappa: Estimate | Undefined
    among_people: Estimate | Undefined
    rates: DetectionRates | Undefined
    mean: Corrected | Undefined
    reliability: Reliability | Undefined
    drift: Drift | Undefined


def assess(of: Labelled, fresh_since: int, level: float = 0.95) -> Assessment:
    """Return the assessment. Labels from `fresh_since` (ms) on are compared with those before, for drift."""
    human = by_item(of.value, of.item, len(of.machine))
    drawn = _drawn(of)
    there = ~np.isnan(human)
    both = there & ~np.isnan(of.machine)
    whole = bool(np.isin(of.value, (0.0, 1.0)).all())
    decided = both & (human != _HALF)
    labelled = _LabelledVerdicts(
        of.machine[decided],
        human[decided] > _HALF,
        None if drawn is None or isinstance(drawn, Undefined) else drawn[decided],
    )
    reason = _DEGREES if not whole else drawn if isinstance(drawn, Undefined) else None
    return Assessment(
        labels=len(of.value),
        items_labelled=int(there.sum()),
        people=len(np.unique(of.who)),
        verdicts=int((~np.isnan(of.machine)).sum()),
        both=int(both.sum()),
        contested=_contested(of),
        not_judged=of.not_judged,
        agreement=reason or raw_agreement(labelled.yes, labelled.right, labelled.drawn, level=level),
        kappa=reason or kappa(labelled.yes, labelled.right, probability=labelled.drawn, level=level),
        among_people=_among_people(of, whole, level),
        rates=reason or rates(labelled.yes, labelled.right, labelled.drawn, level=level),
        mean=corrected_mean(of, level),
        reliability=reason or _reliability(labelled, level),
        drift=reason or _drift(of, human, decided, labelled, fresh_since),
    )


def corrected_mean(of: Labelled, level: float = 0.95) -> Corrected | Undefined:
    """Return the mean over all items that people would give."""
    drawn = _drawn(of)
    if isinstance(drawn, Undefined):
        return drawn
    human = by_item(of.value, of.item, len(of.machine))
    return true_mean(Verdicts(of.machine, human, drawn, judged=of.judged), level)


@dataclass(frozen=True, eq=False, slots=True)
class _LabelledVerdicts:
    """Items with a verdict and a label that is yes or no."""

    machine: Floats
    right: Bools
    drawn: Floats | None

    @property
    def yes(self) -> Bools:
        return np.asarray(self.machine >= _HALF)


def _drawn(of: Labelled) -> Floats | Undefined | None:
    """Return the probability with which each item was drawn; None where no label states it."""
    known = ~np.isnan(of.probability)
    if not known.any():
        return None
    if not known.all():
        return _UNEVEN
    found = np.full(len(of.machine), np.nan)
    found[of.item] = of.probability
    if (found[of.item] != of.probability).any():
        return Undefined("labels of one job name different probabilities with which it was drawn")
    return found


def _contested(of: Labelled) -> int:
    yes = np.bincount(of.item, of.value > _HALF, len(of.machine)) > 0
    no = np.bincount(of.item, of.value < _HALF, len(of.machine)) > 0
    return int((yes & no).sum())


def _among_people(of: Labelled, whole: bool, level: float) -> Estimate | Undefined:
    """Return the agreement among people by each person's last label of an item."""
    people, column = np.unique(of.who, return_inverse=True)
    if len(people) < 2:
        return Undefined("one person labelled")
    items, row = np.unique(of.item, return_inverse=True)
    labels = np.full((len(items), len(people)), np.nan)
    order = np.argsort(of.said_at, kind="stable")
    labels[row[order], column[order]] = of.value[order]
    return alpha(labels, "nominal" if whole else "interval", level=level)


def _reliability(labelled: _LabelledVerdicts, level: float) -> Reliability | Undefined:
    if np.isin(labelled.machine, (0.0, 1.0)).all():
        return Undefined("verdicts say yes or no, and not how surely")
    return reliability(labelled.machine, labelled.right, labelled.drawn, level=level)


def _drift(
    of: Labelled, human: Floats, decided: Bools, labelled: _LabelledVerdicts, fresh_since: int
) -> Drift | Undefined:
    if labelled.drawn is not None and len(labelled.drawn) and np.ptp(labelled.drawn) > 0:
        return Undefined("jobs were drawn with different probabilities, and each such stratum has a drift of its own")
    first = np.full(len(human), np.iinfo(np.int64).max)
    np.minimum.at(first, of.item, of.said_at)
    wrong, fresh = labelled.yes != labelled.right, first[decided] >= fresh_since
    if not fresh.any() or fresh.all():
        return Undefined("there are no labels of before" if fresh.any() else "there are no fresh labels")
    before = (int((wrong & ~fresh).sum()), int((~fresh).sum()))
    return drift(before, (int((wrong & fresh).sum()), int(fresh.sum())))
