"""The assessment of a criterion's verdicts by people's labels. Where there is no number, there is a reason."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace_schemas.review import HELD
from headrace_workers.features.quality.store import PassRate, Sampled, Verdict
from headrace_workers.stats.agreement import alpha, kappa, raw_agreement
from headrace_workers.stats.binomial import clopper_pearson_lower, clopper_pearson_upper
from headrace_workers.stats.detection_rates import DetectionRates, rates
from headrace_workers.stats.error_bounds import (
    LOWER_BETS,
    LOWER_WEIGHTS,
    UPPER_BETS,
    UPPER_WEIGHTS,
    log_value,
)
from headrace_workers.stats.estimates import Estimate, Floats, Ids, Interval, Ints, Undefined
from headrace_workers.stats.ppi import Corrected, Verdicts, by_item, true_mean
from headrace_workers.stats.reliability import Reliability, reliability

_PART: Final = 0.5  # of alpha, for the labels from before; the rest is for the fresh ones


@dataclass(frozen=True, slots=True)
class Drift:
    """An alarm (`worse`, `better`) is false in at most a share `alpha` of worlds, however often it is asked for."""

    says: Literal["worse", "better", "none shown"]
    words: str


def drift(before: tuple[int, int], fresh: tuple[int, int], alpha: float = 0.05) -> Drift:
    """Return the drift from the labels before to the fresh ones: how many said that the verdict was wrong, and of how
    many. Raises ValueError for impossible counts.
    """
    (was_wrong, had), (wrong, of) = before, fresh
    if not (0 <= was_wrong <= had and 0 <= wrong <= of):
        raise ValueError(f"{before} and {fresh} are no counts of wrong verdicts and of labels")
    side = alpha / 2  # worse, or better
    text = f"{wrong:,} of {of:,} fresh labels say that the verdict is wrong, and {was_wrong:,} of {had:,} did before"
    if not had or not of:
        return Drift("none shown", text)
    part = side * (1 - _PART)
    if wrong / of > was_wrong / had:
        most = clopper_pearson_upper(was_wrong, had, side * _PART)
        # For the lower bound right and wrong change places, as they do in `calibration.sequence`.
        if _above(of - wrong, of, 1.0 - most, part, LOWER_BETS, LOWER_WEIGHTS):
            return Drift("worse", f"Verdicts have become worse: {text}. Calibrate anew, and look at what changed.")
    elif _above(wrong, of, clopper_pearson_lower(was_wrong, had, side * _PART), part, UPPER_BETS, UPPER_WEIGHTS):
        return Drift("better", f"Verdicts have become better: {text}. Calibrate anew.")
    return Drift("none shown", f"No drift is shown: {text}.")


def _above(seen: int, of: int, rate: float, alpha: float, bets: Floats, weights: Floats) -> bool:
    """Return True if this rate lies above the watched upper bound of what was seen so often: its value is refused."""
    value = log_value(np.array([rate]), np.array([float(seen)]), np.array([float(of)]), bets, weights)
    return seen / of < rate and float(value[0]) > -math.log(alpha)


_HALF: Final = 0.5
_DEGREES: Final = Undefined("labels say how far, not yes or no")
_UNEVEN: Final = Undefined(
    "some labels say with which probability their jobs were drawn, and others do not: give it with all, or with none"
)

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class Queued:
    """The draws of a review queue, with a row an item; 0 where it drew none. `missing` counts the drawn items without a
    label by their state; `silent` are the rules without any label.
    """

    asked: Floats
    labelled: Floats
    missing: Mapping[str, int]
    silent: Mapping[str, int]


@dataclass(frozen=True, eq=False, slots=True)
class Labelled:
    """All verdicts of one kind, one row an item (`machine`, NaN for none; `judged`, the probability of being judged),
    and the labels of some: row, value (0 to 1), person, time (ms) and `probability` (NaN: unknown, 0: `queued`).
    """

    machine: Floats
    item: Ints
    value: Floats
    who: Ints
    said_at: Ints
    probability: Floats
    judged: Floats | None = None
    not_judged: Mapping[str, int] = field(default_factory=dict)
    queued: Queued | None = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """The results of an assessment. `rates` are of a verdict of yes against labels of yes; `mean` is the true mean, and
    `bounds` are where it would be if people found all missing items wrong, or all right.
    """

    labels: int
    items_labelled: int
    people: int
    verdicts: int
    both: int
    contested: int
    not_judged: Mapping[str, int]
    missing: Mapping[str, int]
    agreement: Estimate | Undefined
    kappa: Estimate | Undefined
    among_people: Estimate | Undefined
    rates: DetectionRates | Undefined
    mean: Corrected | Undefined
    bounds: Interval | None
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
        missing={} if of.queued is None else of.queued.missing,
        agreement=reason or raw_agreement(labelled.yes, labelled.right, labelled.drawn, level=level),
        kappa=reason or kappa(labelled.yes, labelled.right, probability=labelled.drawn, level=level),
        among_people=among_people(of.item, of.who, of.said_at, of.value, level),
        rates=reason or rates(labelled.yes, labelled.right, labelled.drawn, level=level),
        mean=corrected_mean(of, level),
        bounds=mean_bounds(of, level),
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


def mean_bounds(of: Labelled, level: float = 0.95) -> Interval | None:
    """Return the bounds of the mean if people found all items wrong, or all right, that a review queue drew and nobody
    labelled; None without such items.
    """
    if of.queued is None or not of.queued.missing or (~np.isnan(of.probability)).sum() < len(of.probability):
        return None
    human = by_item(of.value, of.item, len(of.machine))
    drawn, missing = _union(of, of.queued.asked), np.isnan(human) & (of.queued.asked > 0)
    ends = [
        true_mean(Verdicts(of.machine, np.where(missing, value, human), drawn, judged=of.judged), level)
        for value in (0.0, 1.0)
    ]
    low, high = (end.interval for end in ends if isinstance(end, Corrected))
    return Interval(low.low, high.high, level, "all that is missing wrong, and all right")


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
    """Return the probability with which each item was drawn, and labelled; None where no label states it."""
    known = ~np.isnan(of.probability)
    if not known.any():
        return None
    if not known.all():
        return _UNEVEN
    if of.queued is None:
        return _union(of, np.zeros(len(of.machine)))
    for rule, count in of.queued.silent.items():
        return Undefined(f"nobody has labelled any of the {count:,} answers that the rule {rule} drew")
    return _union(of, of.queued.labelled)


def _union(of: Labelled, queued: Floats) -> Floats:
    """Return the probability that at least one of the draws took an item: what a queue drew, and each other draw, which
    labels of one item tell apart by its probability. All are independent of each other.
    """
    draws = np.unique(np.stack([of.item, of.probability], axis=1), axis=0)
    taken = queued.copy()
    # p + q − p·q, one draw of each item after the other: a single one keeps its probability to the last digit.
    while len(draws):
        _, first = np.unique(draws[:, 0], return_index=True)
        rows, probability = draws[first, 0].astype(np.int64), draws[first, 1]
        taken[rows] += probability - taken[rows] * probability
        draws = np.delete(draws, first, axis=0)
    return taken


def _contested(of: Labelled) -> int:
    yes = np.bincount(of.item, of.value > _HALF, len(of.machine)) > 0
    no = np.bincount(of.item, of.value < _HALF, len(of.machine)) > 0
    return int((yes & no).sum())


def among_people(item: Ids, who: Ids, said_at: Ids, value: Floats, level: float = 0.95) -> Estimate | Undefined:
    """Return the agreement among people by each person's last label of an item. All have a row a label."""
    people, column = np.unique(who, return_inverse=True)
    if len(people) < 2:
        return Undefined("one person labelled")
    items, row = np.unique(item, return_inverse=True)
    labels = np.full((len(items), len(people)), np.nan)
    order = np.argsort(said_at, kind="stable")
    labels[row[order], column[order]] = value[order]
    return alpha(labels, "nominal" if np.isin(value, (0.0, 1.0)).all() else "interval", level=level)


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


class Subject(NamedTuple):
    """The subject of an assessment. `version` is that of a criterion with a name."""

    kind: str  # criterion | category
    about: str
    version: str | None


def by_subject(
    labels: Sequence[Any], verdicts: Sequence[Verdict], samples: Sequence[Sampled] = ()
) -> dict[Subject, Labelled]:
    """Return labels by subject, from rows of the ledger. A label of a job without a known verdict has no version."""
    versions = {(verdict.job_id, verdict.kind, verdict.about): verdict.version for verdict in verdicts}
    items: defaultdict[Subject, dict[str, float]] = defaultdict(dict)
    drawn: defaultdict[Subject, dict[str, float]] = defaultdict(dict)
    silent: defaultdict[Subject, Counter[str]] = defaultdict(Counter)
    labels_of: defaultdict[Subject, list[Any]] = defaultdict(list)
    for verdict in verdicts:
        value = np.nan if verdict.value is None else verdict.value
        subject = Subject(verdict.kind, verdict.about, verdict.version)
        items[subject][verdict.job_id] = value
        if verdict.not_judged is not None:
            silent[subject][verdict.not_judged] += 1
        if verdict.probability is not None:
            drawn[subject][verdict.job_id] = verdict.probability
    for label in labels:
        key = (label.job_id, label.kind, label.about)
        labels_of[Subject(label.kind, label.about, versions.get(key))].append(label)
    found = dict[Subject, Labelled]()
    for subject in sorted(labels_of, key=lambda subject: (subject.kind, subject.about, subject.version or "")):
        of_it, known = labels_of[subject], items[subject]
        asked = [sample for sample in samples if sample.job_id in known]
        if any(label.item is not None and label.job_id not in known for label in of_it):
            # People are asked about answers without a verdict, too.
            asked += [sample for sample in samples if (sample.job_id, subject.kind, subject.about) not in versions]
        found[subject] = _labelled_rows(known, of_it, drawn[subject], silent[subject], asked)
    return found


def _labelled_rows(
    items: dict[str, float],
    labels: Sequence[Any],
    drawn: Mapping[str, float],
    silent: Mapping[str, int],
    samples: Sequence[Sampled],
) -> Labelled:
    sampled = {sample.item for sample in samples}
    draws, left_out = _draws(samples, {label.item for label in labels})
    left_out -= {label.job_id for label in labels}
    items = {job_id: value for job_id, value in items.items() if job_id not in left_out}
    for job in (*draws, *labels):
        items.setdefault(job.job_id, np.nan)
    places = {job_id: place for place, job_id in enumerate(items)}
    people: dict[str, int] = {}
    machine = np.array(list(items.values()), dtype=np.float64)
    item = np.array([places[label.job_id] for label in labels], dtype=np.int64)
    probability = np.array([np.nan if label.probability is None else label.probability for label in labels])
    judged = np.array([drawn.get(job_id, 1.0) for job_id in items]) if drawn else None
    if judged is not None and np.isnan(probability).all() and not np.isnan(machine[item]).any():
        # People looked at what was judged, which not every job had the same chance of.
        probability = judged[item]
    return Labelled(
        machine=machine,
        item=item,
        value=np.array([label.value for label in labels], dtype=np.float64),
        who=np.array([people.setdefault(label.who, len(people)) for label in labels], dtype=np.int64),
        said_at=np.array([label.said_at for label in labels], dtype=np.int64),
        probability=np.where([label.item in sampled for label in labels], 0.0, probability),
        judged=judged,
        not_judged=silent,
        queued=_queued(draws, places, machine) if draws else None,
    )


_QUARTERS: Final = 4  # of the scale of a machine's value
_NO_VERDICT: Final = _QUARTERS  # the class after them
_JOINED: Final = _QUARTERS + 1
_LEAST_ANSWERS: Final = 5  # of a class of its own
_LABELLED: Final = "labelled"  # the state of what is not missing


def _draws(samples: Sequence[Sampled], labelled: Collection[str]) -> tuple[list[Sampled], set[str]]:
    """Return the draws that count, each job once a rule, and the jobs for which none does. A rule that drew next to
    nothing counts only once somebody labels it.
    """
    found: dict[tuple[str, str], Sampled] = {}
    for sample in samples:
        key = sample.job_id, sample.rule
        if sample.item in labelled:
            found[key] = sample._replace(state=_LABELLED)
        elif key not in found or found[key].state != _LABELLED:
            found[key] = sample
    count = Counter(draw.rule for draw in found.values())
    heard = {draw.rule for draw in found.values() if draw.state == _LABELLED}
    counts = heard | {rule for rule, drawn in count.items() if drawn >= _LEAST_ANSWERS and rule != HELD}
    kept = [draw for draw in found.values() if draw.rule in counts]
    held = {draw.job_id for draw in found.values() if draw.rule == HELD}
    return kept, held - {draw.job_id for draw in kept}


def _queued(draws: Sequence[Sampled], places: Mapping[str, int], machine: Floats) -> Queued:
    row = np.array([places[draw.job_id] for draw in draws], dtype=np.int64)
    probability = np.array([draw.probability for draw in draws], dtype=np.float64)
    labelled = np.array([draw.state == _LABELLED for draw in draws], dtype=np.bool_)
    rules, rule = np.unique([draw.rule for draw in draws], return_inverse=True)
    value = machine[row]
    quarter = np.minimum(_QUARTERS - 1, np.nan_to_num(value) * _QUARTERS).astype(np.int64)
    rates = _response_rates(rule, np.where(np.isnan(value), _NO_VERDICT, quarter), labelled)
    not_asked, not_labelled = np.ones(len(machine)), np.ones(len(machine))
    np.multiply.at(not_asked, row, 1.0 - probability)
    np.multiply.at(not_labelled, row, 1.0 - probability * rates)
    silent = np.bincount(rule, labelled) == 0
    return Queued(
        1.0 - not_asked,
        1.0 - not_labelled,
        Counter(draw.state for draw in draws if draw.state != _LABELLED),
        {str(rules[place]): int((rule == place).sum()) for place in np.flatnonzero(silent)},
    )


def _response_rates(rule: Ints, quarter: Ints, labelled: Bools) -> Floats:
    """Return the labelled share of each item's class: a rule, and a quarter of the machine's values if it has enough
    labels.
    """
    size, joined = _JOINED + 1, rule * (_JOINED + 1) + _JOINED
    classes = rule * size + quarter
    few = np.bincount(classes, labelled)[classes] < _LEAST_ANSWERS
    classes = np.where(few, joined, classes)
    of_class = np.bincount(classes, labelled, minlength=int(joined.max()) + 1)
    whole = (np.bincount(rule, few)[rule] > 0) & (of_class[joined] < _LEAST_ANSWERS)
    classes = np.where(whole, joined, classes)
    return np.asarray((np.bincount(classes, labelled) / np.maximum(1, np.bincount(classes)))[classes])


def pass_rates(labels: Sequence[Any], verdicts: Sequence[Verdict], samples: Sequence[Sampled] = ()) -> list[PassRate]:
    """Return one pass rate for each criterion and version, from labels with a verdict; none where it is undefined."""
    known = {(verdict.job_id, verdict.kind, verdict.about) for verdict in verdicts}
    labels = [label for label in labels if (label.job_id, label.kind, label.about) in known]
    found = [
        _rate(subject.about, subject.version or "", of)
        for subject, of in by_subject(labels, verdicts, samples).items()
        if subject.kind == "criterion"
    ]
    return [rate for rate in found if rate is not None]


def _rate(criterion: str, version: str, of: Labelled) -> PassRate | None:
    mean = corrected_mean(of)
    if isinstance(mean, Undefined):
        return None
    interval = mean.interval
    return PassRate(
        criterion, version, mean.value, interval.low, interval.high, interval.level, mean.n_human, mean.n_machine,
        mean.reason,
    )  # fmt: skip
