"""Progress of reviews in the last 90 days: queues, people, agreement, and what is missing for which estimate."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any, Final

from pydantic import BaseModel, Field
from sqlalchemy import Connection, Row

from headrace_schemas.review import HELD, MANUAL, ReviewRule
from headrace_workers.core.sql.database import clock
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.features.quality.store import KEPT_MS, LabelledJobs, labelled_jobs, labels_of_items
from headrace_workers.features.reviews.hooks import current_rules
from headrace_workers.features.reviews.progress import store
from headrace_workers.features.reviews.progress.store import RuleProgress

_MOST_LABELS: Final = 20_000  # the newest, whose agreement is computed
_LONGEST_SECONDS: Final = 3_600.0  # between two decisions of a person: a longer time was a break
_LEAST_DRAWN: Final = 5  # of a rule that nobody labels, so that quality waits for it


class PersonProgress(BaseModel):
    """A person's work. `median_seconds` is from a decision to the next, breaks of an hour left out."""

    who: str = Field(description="The person: the name of the API key that signed in.")
    decided: int = Field(description="Items that the person has decided.")
    skipped: int = Field(description="Items that the person skipped.")
    median_seconds: float | None = Field(
        description="The median time from one decision to the next; null before there are two."
    )


class RuleAgreement(BaseModel):
    """The agreement among people by a criterion or category, of one rule's items: Krippendorff's α."""

    rule: str = Field(description="The rule.")
    criterion: str | None = Field(default=None, description="The criterion.")
    category: str | None = Field(default=None, description="The moderation category, instead of a criterion.")
    items: int = Field(description="Items with labels of two people or more.")
    alpha: float | None = Field(description="α: 1 is full agreement, 0 as by chance. Null where it is undefined.")
    low: float | None = Field(description="The lower end of its 95 % interval.")
    high: float | None = Field(description="The upper end of its 95 % interval.")
    reason: str | None = Field(description="The reason why there is no α.")


class Progress(BaseModel):
    """How far a tenant's reviews have come in the last 90 days."""

    rules: list[RuleProgress] = Field(description="The queue of each rule.")
    people: list[PersonProgress] = Field(description="The work of each person.")
    agreement: list[RuleAgreement] = Field(description="The agreement among people, by rule and criterion.")
    words: list[str] = Field(description="What is missing for which estimate, a sentence each.")


def progress(connection: Connection, tenant: str) -> Progress:
    """Return how far a tenant's reviews have come."""
    since = clock(connection) - KEPT_MS
    current = [rule for rule in current_rules(connection).rules if rule.tenant in (None, tenant)]
    rules = store.rules(connection, tenant, since)
    subjects = labelled_jobs(connection, tenant)
    labels = labels_of_items(connection, tenant, since, _MOST_LABELS)
    rule_of = store.rules_of_items(connection, {label.item for label in labels})
    agreement = list(_agreement(labels, rule_of))
    return Progress(
        rules=rules,
        people=_people(connection, tenant, since),
        agreement=agreement,
        words=[
            *_words_of_labels(subjects, rules, _queue_to_work(current, rules)),
            *_words_of_agreement(subjects, agreement),
            *_words_of_rules(current, rules),
        ],
    )


class ReviewProgress(LedgerStore):
    """The progress of the reviews of one ledger. Thread-safe. Unavailable when the database does not answer."""

    of = reads(progress)


def _people(connection: Connection, tenant: str, since: int) -> list[PersonProgress]:
    times = store.decision_times(connection, tenant, since)
    return [
        PersonProgress(
            who=who,
            decided=count["decided"],
            skipped=count["skipped"],
            median_seconds=_median_seconds(times.get(who, ())),
        )
        for who, count in sorted(store.people(connection, tenant, since).items())
        if count["decided"] or count["skipped"]
    ]


def _median_seconds(decided_at: Sequence[int]) -> float | None:
    gaps = [(later - earlier) / 1000 for earlier, later in pairwise(sorted(decided_at))]
    gaps = [gap for gap in gaps if gap < _LONGEST_SECONDS]
    return median(gaps) if gaps else None


def _agreement(labels: Sequence[Row[Any]], rule_of: Mapping[str, str]) -> Iterator[RuleAgreement]:
    by_subject: defaultdict[tuple[str, str, str], list[Row[Any]]] = defaultdict(list)
    for label in labels:
        if label.item in rule_of:
            by_subject[rule_of[label.item], label.kind, label.about].append(label)
    for (rule, kind, about), rows in sorted(by_subject.items()):
        yield _agreement_of(rule, kind, about, rows)


def _agreement_of(rule: str, kind: str, about: str, rows: Sequence[Row[Any]]) -> RuleAgreement:
    import numpy as np

    from headrace_workers.features.quality.assessment import among_people
    from headrace_workers.stats.estimates import Undefined

    people = Counter(item for item, _ in {(row.item, row.who) for row in rows})
    rows = [row for row in rows if people[row.item] > 1]
    common = {"rule": rule, "items": len({row.item for row in rows}), kind: about}
    if not rows:
        return RuleAgreement(**common, alpha=None, low=None, high=None, reason="no item has labels of two people")
    said_at, value = np.array([row.said_at for row in rows]), np.array([row.value for row in rows], dtype=np.float64)
    found = among_people(np.array([row.item for row in rows]), np.array([row.who for row in rows]), said_at, value)
    if isinstance(found, Undefined):
        return RuleAgreement(**common, alpha=None, low=None, high=None, reason=found.reason)
    interval = found.interval
    return RuleAgreement(**common, alpha=found.value, low=interval.low, high=interval.high, reason=None)


def _queue_to_work(current: Sequence[ReviewRule], rules: Sequence[RuleProgress]) -> str:
    """Return in which queue more decisions help: that of a rule that takes every answer, else the fullest one."""
    open_items = {rule.rule: rule.open for rule in rules if rule.rule not in (HELD, MANUAL) and rule.open}
    for rule in current:
        if rule.name in open_items and _takes_all(rule):
            return f"in the queue {rule.name}"
    if open_items:
        return f"in the queue {max(open_items, key=lambda rule: open_items[rule])}"
    return "(no queue has open items: raise a rule's share)"


def _takes_all(rule: ReviewRule) -> bool:
    return rule.below is None and rule.disagreement is None


def _words_of_labels(labelled: Sequence[LabelledJobs], rules: Sequence[RuleProgress], where: str) -> Iterator[str]:
    from headrace_workers.stats.ppi import LEAST_LABELS, LEAST_RARE

    if not labelled and rules:
        yield f"Nobody has labelled anything: an estimate needs {LEAST_LABELS} labels of a criterion {where}"
    for subject in labelled:
        if (left := LEAST_LABELS - subject.jobs) > 0:
            yield (
                f"{subject.about}: {subject.jobs} of {LEAST_LABELS} labels that an estimate needs; "
                f"{left} more decision{'s' if left != 1 else ''} {where}"
            )
        elif (rare := min(subject.passed, subject.jobs - subject.passed)) < LEAST_RARE:
            kind = "yes" if subject.passed <= subject.jobs - subject.passed else "no"
            yield (
                f"{subject.about}: about {rare:.0f} of {LEAST_RARE} labels that say {kind}, which an estimate with "
                f"verdicts needs; until then it is of labels alone"
            )
        if subject.of_items and subject.unknown:
            yield (
                f"{subject.about}: {subject.unknown:,} imported label{'s' if subject.unknown != 1 else ''} without a "
                "probability: there is no estimate from these and the queue's together. Give the probability, or "
                "remove them (`headrace review unlabel`)"
            )


def _words_of_agreement(labelled: Sequence[LabelledJobs], agreement: Sequence[RuleAgreement]) -> Iterator[str]:
    together = {
        rule_agreement.criterion or rule_agreement.category for rule_agreement in agreement if rule_agreement.items
    }
    for subject in labelled:
        if subject.of_items and subject.about not in together:
            yield (
                f"{subject.about}: no answer has labels of two people, so that their agreement is unknown; "
                "set people = 2 for a rule"
            )


def _words_of_rules(current: Sequence[ReviewRule], rules: Sequence[RuleProgress]) -> Iterator[str]:
    some_decided = any(rule.decided for rule in rules if rule.rule not in (HELD, MANUAL))
    for rule in rules:
        if rule.rule in (HELD, MANUAL):
            continue
        if some_decided and not rule.decided and rule.drawn >= _LEAST_DRAWN:
            yield (
                f"{rule.rule}: nobody has labelled any of {rule.drawn:,} drawn answers; there is no estimate until "
                "somebody does"
            )
        if rule.skipped or rule.gone:
            yield (
                f"{rule.rule}: {rule.skipped:,} skipped and {rule.gone:,} gone; answers of this rule with about the "
                "same score stand for them"
            )
        if rule.overflow:
            yield f"{rule.rule}: the queue had no room for {rule.overflow:,} drawn answers; the others stand for them"
    if current and not any(_takes_all(rule) for rule in current):
        yield (
            "No rule takes every answer: estimates are of the answers that meet a rule's condition. Add a rule "
            "without a condition, such as an audit with share = 0.05"
        )
