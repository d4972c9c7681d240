"""Which criteria of a job are judged at all, where that is left to chance; and with which probability."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from headrace_schemas import Criterion, NotJudged, Score
from headrace_workers.features.judging.said import unscored

_WHOLE: Final = 2**64


def drawn(job_id: str, share: float) -> bool:
    """Whether a job is among this share of all: by the hash of its id, so that it is the same whoever asks, and that
    a larger share holds a smaller one. Two criteria of one job are drawn together.
    """
    return int.from_bytes(hashlib.sha256(f"judged\n{job_id}".encode()).digest()[:8]) < share * _WHOLE


def may_be_judged(job_id: str, criterion: Criterion) -> bool:
    """Whether a criterion is judged for this job, or may be when others are: False where it is known not to be."""
    return criterion.uncertain is not None or drawn(job_id, criterion.share)


def probability_of(criterion: Criterion, before: Mapping[str, Score]) -> float | None:
    """With which a criterion is judged; None where it always is. `before` are the scores that a doubt is about."""
    if criterion.uncertain is None:
        return None if criterion.share == 1.0 else criterion.share
    found = before.get(criterion.uncertain.criterion)
    if found is None or found.value is None or criterion.uncertain.low <= found.value <= criterion.uncertain.high:
        return 1.0
    return criterion.share


def left_out(criterion: Criterion, probability: float) -> Score:
    """The score of a criterion whose job was not drawn."""
    reason = f"the job is not among the {probability:.3g} of all that are judged by this"
    return unscored(criterion, NotJudged.NOT_SAMPLED, reason, probability=probability)


def rounds(criteria: Sequence[Criterion]) -> tuple[list[int], list[int]]:
    """The places of those that are judged first, and of those that are judged by what these say."""
    first = [place for place, each in enumerate(criteria) if each.uncertain is None]
    return first, [place for place, each in enumerate(criteria) if each.uncertain is not None]
