"""The analysis of a run: scores with intervals, and each variant against the first. Items are the rows."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from headrace_schemas.job import derive_job_id
from headrace_workers.features.evals.outcomes import STATUSES, Floats, Outcomes
from headrace_workers.features.evals.plan import Plan
from headrace_workers.features.evals.run_file import Run, WrongRun
from headrace_workers.stats.agreement import alpha, kappa, raw_agreement
from headrace_workers.stats.comparison import Comparison, Verdict, compare, mean, verdicts
from headrace_workers.stats.estimates import Estimate, Undefined
from headrace_workers.stats.ppi import Corrected, Verdicts, by_item, true_mean

_HALF: Final = 0.5
_UNEVEN: Final = Undefined("labels name different probabilities with which their jobs were drawn, or some name none")

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class People:
    """The results of one criterion by labels: `means` of each variant, `differences` of each but the first against
    that, and `among_people`, Krippendorff's α.
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
        _people_of(plan, outcomes, place, [(jobs[label.job_id], label) for label in labels_of])
        for place, labels_of in enumerate(mine)
        if labels_of
    )


def _people_of(plan: Plan, outcomes: Outcomes, criterion: int, labels: list[tuple[int, Any]]) -> People:
    scores = outcomes.scores[..., criterion]  # (items, repeats, variants), whose places match the jobs'
    job = np.array([place for place, _ in labels], dtype=np.int64)
    value = np.array([item.value for _, item in labels], dtype=np.float64)
    _, who = np.unique([item.who for _, item in labels], return_inverse=True)
    labelled = by_item(value, job, scores.size)
    of_item = np.arange(scores.size) // (plan.run.repeats * len(plan.run.variants))
    decided = ~np.isnan(labelled) & ~np.isnan(scores.ravel()) & (labelled != _HALF)
    yes, right, items = scores.ravel()[decided] >= _HALF, labelled[decided] > _HALF, of_item[decided]
    human, machine = _over_repeats(labelled.reshape(scores.shape)), _over_repeats(scores)
    clusters = None if plan.run.cluster is None else np.array([item.cluster for item in plan.dataset.items])
    drawn = {item.probability for _, item in labels}

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


@dataclass(frozen=True, slots=True)
class Spread:
    """Variances: `between` of what items would score over endless repeats, `within` of repeats of one item."""

    between: float
    within: float


def spread(scores: NDArray[np.float64]) -> Spread | None:
    """Return the spread of scores of shape (items, repeats), by a one-way analysis of variance with random effects
    (Searle, Casella & McCulloch 1992, section 3.6); NaN marks a missing score. Return None without repeats.
    """
    there = ~np.isnan(scores)
    counts = there.sum(axis=1)
    scores, there, counts = scores[counts > 0], there[counts > 0], counts[counts > 0]
    degrees = int((counts - 1).sum())
    if degrees == 0 or len(counts) < 2:
        return None
    means = np.nansum(scores, axis=1) / counts
    squares = np.where(there, (scores - means[:, None]) ** 2, 0.0).sum()
    within = float(squares / degrees)
    between = float(means.var(ddof=1)) - within * float((1.0 / counts).mean())
    return Spread(max(0.0, between), within)


_SECONDS: Final = 1_000.0  # ms


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of a mean or difference over all items: the least and the most that those without a score leave open."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scored:
    """The results of a variant by a criterion. Jobs without a score are `failed` (no answer) or `abstained` (not
    judged); `spread` is None without repeats.
    """

    variant: str
    criterion: str
    mean: Estimate | Undefined
    bounds: Bounds
    failed: int
    abstained: int
    reasons: Counter[str]
    spread: Spread | None


@dataclass(frozen=True, slots=True)
class Compared:
    """Comparison of B with A by a criterion, on the items that both have a score for; there is no verdict while jobs
    are `missing`.
    """

    a: str
    b: str
    criterion: str
    comparison: Comparison | Undefined
    verdict: Verdict | None
    bounds: Bounds
    incomplete: int
    missing: int

    @property
    def words(self) -> str:
        """The result for people, with the change that items without a score could make."""
        if self.missing:
            noun = "job has" if self.missing == 1 else "jobs have"
            return f"no verdict yet: {self.missing:,} {noun} no end, and it is given once"
        if isinstance(self.comparison, Undefined) or self.verdict is None:
            reason = self.comparison.reason if isinstance(self.comparison, Undefined) else "not compared"
            return f"cannot tell: {reason}"
        if not self.incomplete:
            return self.verdict.words
        noun = "item lacks" if self.incomplete == 1 else "items lack"
        low, high = _signed(self.bounds.low), _signed(self.bounds.high)
        return f"{self.verdict.words}; {self.incomplete:,} {noun} a score: the difference of all is {low} to {high}"


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a variant. Tokens are sums; times are p50 and p95 in seconds, None where nothing was measured."""

    variant: str
    jobs: int
    statuses: dict[str, int]
    failures: Counter[str]
    prompt_tokens: int
    completion_tokens: int
    total_s: tuple[float, float] | None
    ran_s: tuple[float, float] | None
    cached: int


@dataclass(frozen=True, slots=True)
class Analysis:
    """All of it. `scores` goes criterion by criterion, in it variant by variant; the primary criterion is the first.
    `people` are criteria of which people labelled answers.
    """

    scores: tuple[Scored, ...]
    compared: tuple[Compared, ...]
    costs: tuple[Cost, ...]
    people: tuple[People, ...] = ()

    @property
    def missing(self) -> int:
        """Return the number of jobs that have not ended yet."""
        return sum(cost.statuses["missing"] for cost in self.costs)


def analyse(plan: Plan, outcomes: Outcomes, labels: Iterable[Any] = ()) -> Analysis:
    """Return all numbers of a report. `labels` are people's, of this run's jobs and of others."""
    run = plan.run
    order = sorted(range(len(run.criteria)), key=lambda place: place != run.primary_place)
    pairs = [(criterion, variant) for criterion in order for variant in range(1, len(run.variants))]
    found = [compare_variants(plan, outcomes, 0, variant, criterion) for criterion, variant in pairs]
    sure = [item for item in found if isinstance(item, Comparison)]
    names = [(run.variants[0].name, run.variants[variant].name)
             for (_, variant), item in zip(pairs, found, strict=True) if isinstance(item, Comparison)]  # fmt: skip
    verdict_of = iter([None] * len(sure) if outcomes.missing else verdicts(sure, run.margin, names))
    return Analysis(
        tuple(_scored(plan, outcomes, v, c) for c in order for v in range(len(run.variants))),
        tuple(
            _compared(
                plan, outcomes, variant, criterion, item, next(verdict_of) if isinstance(item, Comparison) else None
            )
            for (criterion, variant), item in zip(pairs, found, strict=True)
        ),
        tuple(_cost(plan, outcomes, variant) for variant in range(len(run.variants))),
        people_of(plan, outcomes, labels),
    )


def compare_variants(plan: Plan, outcomes: Outcomes, a: int, b: int, criterion: int) -> Comparison | Undefined:
    """Compare two variants on the items that have a score of both."""
    of_a, of_b = _by_item(outcomes, a, criterion), _by_item(outcomes, b, criterion)
    both = ~(np.isnan(of_a) | np.isnan(of_b))
    clusters = _clusters(plan)
    return compare(of_a[both], of_b[both], None if clusters is None else clusters[both], level=plan.run.level)


def compare_at_worst(plan: Plan, outcomes: Outcomes, a: int, b: int, criterion: int) -> Comparison | Undefined:
    """Compare two variants on all items. A missing score counts against B: as 1 of A, as 0 of B."""
    return compare(
        _filled(outcomes, a, criterion, 1.0),
        _filled(outcomes, b, criterion, 0.0),
        _clusters(plan),
        level=plan.run.level,
    )


def _clusters(plan: Plan) -> "np.ndarray[tuple[int], np.dtype[np.generic]] | None":
    return None if plan.run.cluster is None else np.array([item.cluster for item in plan.dataset.items])


def _by_item(outcomes: Outcomes, variant: int, criterion: int) -> Floats:
    scores = outcomes.scores[:, :, variant, criterion]
    there = ~np.isnan(scores)
    counts = there.sum(axis=1)
    sums = np.where(there, scores, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _filled(outcomes: Outcomes, variant: int, criterion: int, value: float) -> Floats:
    scores = outcomes.scores[:, :, variant, criterion]
    return np.asarray(np.where(np.isnan(scores), value, scores).mean(axis=1), dtype=np.float64)


def _scored(plan: Plan, outcomes: Outcomes, variant: int, criterion: int) -> Scored:
    by_item = _by_item(outcomes, variant, criterion)
    there = ~np.isnan(by_item)
    clusters = _clusters(plan)
    answered = outcomes.answered[:, :, variant]
    unscored = np.isnan(outcomes.scores[:, :, variant, criterion])
    return Scored(
        plan.run.variants[variant].name,
        plan.run.criterion_names[criterion],
        mean(by_item[there], None if clusters is None else clusters[there], plan.run.level),
        Bounds(
            float(_filled(outcomes, variant, criterion, 0.0).mean()),
            float(_filled(outcomes, variant, criterion, 1.0).mean()),
        ),
        int((~answered).sum()),
        int((answered & unscored).sum()),
        outcomes.abstentions[variant][criterion],
        spread(outcomes.scores[:, :, variant, criterion]),
    )


def _compared(
    plan: Plan, outcomes: Outcomes, variant: int, criterion: int, found: Comparison | Undefined, verdict: Verdict | None
) -> Compared:
    def all_items(a: float, b: float) -> float:
        difference = _filled(outcomes, variant, criterion, b) - _filled(outcomes, 0, criterion, a)
        return float(difference.mean())

    lacks = np.isnan(outcomes.scores[:, :, [0, variant], criterion])
    return Compared(
        plan.run.variants[0].name,
        plan.run.variants[variant].name,
        plan.run.criterion_names[criterion],
        found,
        verdict,
        Bounds(all_items(1.0, 0.0), all_items(0.0, 1.0)),
        int(lacks.any(axis=(1, 2)).sum()),
        outcomes.missing,
    )


def _cost(plan: Plan, outcomes: Outcomes, variant: int) -> Cost:
    status = outcomes.status[:, :, variant]
    return Cost(
        variant=plan.run.variants[variant].name,
        jobs=status.size,
        statuses={name: int((status == place).sum()) for place, name in enumerate(STATUSES)},
        failures=outcomes.failures[variant],
        prompt_tokens=int(np.nansum(outcomes.prompt_tokens[:, :, variant])),
        completion_tokens=int(np.nansum(outcomes.completion_tokens[:, :, variant])),
        total_s=_percentiles(outcomes.total_ms[:, :, variant]),
        ran_s=_percentiles(outcomes.ran_ms[:, :, variant]),
        cached=int(outcomes.cached[:, :, variant].sum()),
    )


def _percentiles(times_ms: Floats) -> tuple[float, float] | None:
    there = times_ms[~np.isnan(times_ms)]
    if not len(there):
        return None
    p50, p95 = np.percentile(there, [50, 95]) / _SECONDS
    return float(p50), float(p95)


def _signed(value: float) -> str:
    return f"{value:+.2g}".replace("-", "−")


_NAME: Final = r"[A-Za-z][A-Za-z0-9_.-]*"
_NUMBER: Final = r"\d+(?:\.\d*)?|\.\d+"
_GATE: Final = re.compile(rf"\s*({_NAME})\s*>=\s*(?:({_NAME})\s*(?:\s([+-])\s*({_NUMBER}))?|({_NUMBER}))\s*")


@dataclass(frozen=True, slots=True)
class Gate:
    """B is to be at least A + `by`, in the mean of the primary criterion; without A, at least `by`. `b` and `a` are
    places of variants.
    """

    text: str
    b: int
    a: int | None
    by: float

    @classmethod
    def parse(cls, text: str, run: Run) -> Self:
        """Return the gate. Raise WrongRun for an invalid gate, or an unknown variant."""
        match = _GATE.fullmatch(text)
        names = [variant.name for variant in run.variants]
        if match is None:
            raise WrongRun(
                f"--gate is {text!r}; write it as 'B >= A - 0.02', with spaces around each sign, or as 'B >= 0.9'"
            )
        for name in match.group(1, 2):
            if name is not None and name not in names:
                raise WrongRun(
                    f"--gate names {name!r}, and the variants are {', '.join(names)}: write it as 'B >= A - 0.02', "
                    "with spaces around each sign, or as 'B >= 0.9'"
                )
        by = float(match[5] or match[4] or 0.0) * (-1 if match[3] == "-" else 1)
        return cls(text.strip(), names.index(match[1]), None if match[2] is None else names.index(match[2]), by)


@dataclass(frozen=True, slots=True)
class Passed:
    """The result of the gate, with the reason in words."""

    passed: bool
    words: str


def judge_gate(gate: Gate, plan: Plan, outcomes: Outcomes) -> Passed:
    """Return the result of the gate by the lower end of the interval; a missing score counts against B."""
    if outcomes.missing:
        return Passed(
            False, f"gate {gate.text}: not passed: {outcomes.missing:,} of {plan.jobs:,} jobs have not ended yet"
        )
    primary = plan.run.primary_place
    found: Comparison | Estimate | Undefined
    if gate.a is None:
        found = mean(_filled(outcomes, gate.b, primary, 0.0), _clusters(plan), plan.run.level)
    else:
        found = compare_at_worst(plan, outcomes, gate.a, gate.b, primary)
    if isinstance(found, Undefined):  # pragma: no cover - a dataset has items
        return Passed(False, f"gate {gate.text}: cannot tell: {found.reason}")
    value = found.difference if isinstance(found, Comparison) else found.value
    seen = (
        f"{plan.run.primary}: {value:.3g} ({found.interval.low:.3g} to {found.interval.high:.3g}) "
        f"with {plan.run.level:.0%}, missing scores count against it"
    )
    if found.interval.low >= gate.by:
        return Passed(True, f"gate {gate.text}: passed; {seen}")
    if found.interval.high < gate.by:
        return Passed(False, f"gate {gate.text}: not passed; {seen}")
    return Passed(False, f"gate {gate.text}: not passed: cannot tell; {seen}")
