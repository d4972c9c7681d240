"""The random choice of criteria that are judged, and its probabilities."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from headrace_schemas import Criterion, NotJudged, Score
from headrace_workers.features.judging.receipt_scores import unscored

_WHOLE: Final = 2**64


def drawn(job_id: str, share: float) -> bool:
    """Return True if a job is in this share of all.

    It depends on the hash of its id: it is the same everywhere, and a larger share holds a smaller one.
    """
    return int.from_bytes(hashlib.sha256(f"judged\n{job_id}".encode()).digest()[:8]) < share * _WHOLE


def may_be_judged(job_id: str, criterion: Criterion) -> bool:
    """Return True if a criterion is judged for this job, or may be once others are; False where it is known not to
    be.
    """
    return criterion.uncertain is not None or drawn(job_id, criterion.share)


def probability_of(criterion: Criterion, before: Mapping[str, Score]) -> float | None:
    """Return the probability with which a criterion is judged; None where it always is.

    `before` has the scores that it may depend on.
    """
    if criterion.uncertain is None:
        return None if criterion.share == 1.0 else criterion.share
    found = before.get(criterion.uncertain.criterion)
    if found is None or found.value is None or criterion.uncertain.low <= found.value <= criterion.uncertain.high:
        return 1.0
    return criterion.share


def left_out(criterion: Criterion, probability: float) -> Score:
    """Return the score of a criterion whose job was not drawn."""
    reason = f"the job is not among the {probability:.3g} of all that are judged by this"
    return unscored(criterion, NotJudged.NOT_SAMPLED, reason, probability=probability)


def rounds(criteria: Sequence[Criterion]) -> tuple[list[int], list[int]]:
    """Return the places of the criteria that are judged first, and of the criteria that depend on them."""
    first = [place for place, each in enumerate(criteria) if each.uncertain is None]
    return first, [place for place, each in enumerate(criteria) if each.uncertain is not None]
