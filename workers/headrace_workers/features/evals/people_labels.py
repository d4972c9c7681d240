"""People's labels of a run's answers beside its judges' scores: means and differences that account for the judges'
errors, and the agreement among people, which no judge can be shown to exceed. Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headrace_schemas.job import derive_job_id
from headrace_workers.features.evals.outcomes import Floats, Outcomes
from headrace_workers.features.evals.plan import Plan
from headrace_workers.features.quality.agreement import alpha, kappa, raw_agreement
from headrace_workers.features.quality.estimates import Estimate, Undefined
from headrace_workers.features.quality.ppi import Corrected, Verdicts, by_item, true_mean

_HALF: Final = 0.5
_UNEVEN: Final = Undefined("labels name different probabilities with which their jobs were drawn, or some name none")

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class People:
    """The results of one criterion by labels.

    `means` are what people would say of each variant, `differences` of each but the first against that: by the labels
    of some answers and the verdicts of all (features/quality/ppi.py). `among_people` is Krippendorff's α.
    """

    criterion: str
    labels: int
    people: int
    agreement: Estimate | Undefined
    kappa: Estimate | Undefined
    among_people: Estimate | Undefined
    means: tuple[Corrected | Undefined, ...]
    differences: tuple[Corrected | Undefined, ...]


def people_of(plan: Plan, outcomes: Outcomes, labels: Iterable[Any]) -> tuple[People, ...]:
    """Return the results of each criterion with labels of this run's jobs. Labels are rows of the ledger's."""
    names = plan.run.criterion_names
    of_these = [label for label in labels if label.kind == "criterion" and label.about in names]
    if not of_these:
        return ()
    jobs = {derive_job_id(plan.tenant, plan.key_of(line)): line - 1 for line in range(1, plan.jobs + 1)}
    mine: list[list[Any]] = [[] for _ in names]
    for label in of_these:
        if label.job_id in jobs:
            mine[names.index(label.about)].append(label)
    return tuple(
        _people_of(plan, outcomes, place, [(jobs[each.job_id], each) for each in labels_of])
        for place, labels_of in enumerate(mine)
        if labels_of
    )


def _people_of(plan: Plan, outcomes: Outcomes, criterion: int, labels: list[tuple[int, Any]]) -> People:
    scores = outcomes.scores[..., criterion]  # (items, repeats, variants), whose places match the jobs'
    job = np.array([place for place, _ in labels], dtype=np.int64)
    value = np.array([each.value for _, each in labels], dtype=np.float64)
    _, who = np.unique([each.who for _, each in labels], return_inverse=True)
    labelled = by_item(value, job, scores.size)
    of_item = np.arange(scores.size) // (plan.run.repeats * len(plan.run.variants))
    decided = ~np.isnan(labelled) & ~np.isnan(scores.ravel()) & (labelled != _HALF)
    yes, right, items = scores.ravel()[decided] >= _HALF, labelled[decided] > _HALF, of_item[decided]
    human, machine = _over_repeats(labelled.reshape(scores.shape)), _over_repeats(scores)
    clusters = None if plan.run.cluster is None else np.array([item.cluster for item in plan.dataset.items])
    drawn = {each.probability for _, each in labels}

    def corrected(machine: Floats, human: Floats, low: float) -> Corrected | Undefined:
        if len(drawn) > 1:
            return _UNEVEN
        return true_mean(Verdicts(machine, human, clusters=clusters, span=(low, 1.0)), plan.run.level)

    variants = range(len(plan.run.variants))
    return People(
        criterion=plan.run.criterion_names[criterion],
        labels=len(labels),
        people=int(who.max()) + 1,
        agreement=raw_agreement(yes, right, clusters=items, level=plan.run.level),
        kappa=kappa(yes, right, clusters=items, level=plan.run.level),
        among_people=_among(value, job, who, of_item, plan.run.level),
        means=tuple(corrected(machine[:, v], human[:, v], 0.0) for v in variants),
        differences=tuple(
            corrected(machine[:, v] - machine[:, 0], human[:, v] - human[:, 0], -1.0) for v in variants[1:]
        ),
    )


def _over_repeats(values: Floats) -> Floats:
    """Return (items, variants) from (items, repeats, variants): the mean of the scores that are there."""
    there = ~np.isnan(values)
    counts = there.sum(axis=1)
    return np.where(counts > 0, np.where(there, values, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)


def _among(value: Floats, job: Ints, who: Ints, of_item: Ints, level: float) -> Estimate | Undefined:
    """Return the agreement among people by the last label of each person for a job. Labels come in order of time."""
    if who.max() == 0:
        return Undefined("one person labelled")
    jobs, row = np.unique(job, return_inverse=True)
    table = np.full((len(jobs), int(who.max()) + 1), np.nan)
    table[row, who] = value
    whole = bool(np.isin(value, (0.0, 1.0)).all())
    return alpha(table, "nominal" if whole else "interval", clusters=of_item[jobs], level=level)
