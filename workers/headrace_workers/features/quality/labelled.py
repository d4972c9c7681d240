"""From the ledger's labels and verdicts to arrays: one set for each criterion as it was, and each category."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from headrace_workers.features.quality.assessment import Labelled
from headrace_workers.features.quality.store.verdicts import Verdict


class Subject(NamedTuple):
    """The subject of an assessment.

    `version` is that of a criterion with a name: another question is assessed by itself.
    """

    kind: str  # criterion | category
    about: str
    version: str | None


def by_subject(labels: Sequence[Any], verdicts: Sequence[Verdict]) -> dict[Subject, Labelled]:
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
        subject = Subject(label.kind, label.about, versions.get((label.job_id, label.kind, label.about)))
        items[subject].setdefault(label.job_id, np.nan)
        labels_of[subject].append(label)
    ordered = sorted(labels_of, key=lambda subject: (subject.kind, subject.about, subject.version or ""))
    return {
        subject: _labelled(items[subject], labels_of[subject], drawn[subject], silent[subject]) for subject in ordered
    }


def _labelled(
    items: dict[str, float], labels: Sequence[Any], drawn: Mapping[str, float], silent: Mapping[str, int]
) -> Labelled:
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
        probability=probability,
        judged=judged,
        not_judged=silent,
    )
