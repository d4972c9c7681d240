"""Pass rates of a tenant: the mean of people's labels that each criterion implies for all known jobs."""

from collections.abc import Sequence
from typing import Any

from headrace_workers.features.quality.assessment import Labelled, corrected_mean
from headrace_workers.features.quality.interval import Undefined
from headrace_workers.features.quality.labelled import by_subject
from headrace_workers.features.quality.store.pass_rates import PassRate
from headrace_workers.features.quality.store.verdicts import Verdict


def pass_rates(labels: Sequence[Any], verdicts: Sequence[Verdict]) -> list[PassRate]:
    """Return one pass rate for each criterion and version; none where it is undefined.

    A label counts whose job's verdict is among these: others may be of a question that was another one then.
    """
    known = {(verdict.job_id, verdict.kind, verdict.about) for verdict in verdicts}
    labels = [label for label in labels if (label.job_id, label.kind, label.about) in known]
    found = [
        _rate(subject.about, subject.version or "", of)
        for subject, of in by_subject(labels, verdicts).items()
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
