"""Subjects of judging and their scores: values, reasons, random choice, and scores that a job carries."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

from headrace_schemas import Criterion, HeadraceError, NotJudged, Score
from headrace_schemas.errors import PromptTooLong, ProviderNotAllowed
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_workers.models.verifiers.scale import Unanswered


class Unjudged(HeadraceError):
    """There is no value, and another try would find none either; the message is the score's reason."""

    not_judged: ClassVar[NotJudged]


class UnusablePattern(Unjudged):
    """A pattern that RE2 does not compile; the message says where it is wrong."""

    not_judged = NotJudged.BAD_PATTERN


class UnusableSchema(Unjudged):
    """A JSON Schema is invalid, or names something that is not known here."""

    not_judged = NotJudged.BAD_SCHEMA


class TooDeep(Unjudged):
    """A JSON document that is nested deeper than can be checked."""

    not_judged = NotJudged.TOO_DEEP


class NotCovered(Unjudged):
    """A criterion asks for something that is not supported here, such as an unknown language."""

    not_judged = NotJudged.NOT_COVERED


class Unsure(Unjudged):
    """There is too little to tell by."""

    not_judged = NotJudged.UNSURE


class TooLongToEmbed(Unjudged):
    """A text that the embedder does not read whole."""

    not_judged = NotJudged.TOO_LONG


def code_of(error: HeadraceError) -> NotJudged:
    """Return the code of a score that has this error as its reason."""
    if isinstance(error, Unjudged):
        return error.not_judged
    if isinstance(error, Unanswered):
        return NotJudged.UNANSWERED
    if isinstance(error, ProviderNotAllowed):
        return NotJudged.NOT_ALLOWED
    return NotJudged.TOO_LONG if isinstance(error, PromptTooLong) else NotJudged.FAILED


def scored(criterion: Criterion, **said: Any) -> Score:
    """Return a score with this value, and further fields."""
    return Score(criterion=criterion.criterion, **called(criterion), **said)


def unscored(criterion: Criterion, code: NotJudged, reason: str, **said: Any) -> Score:
    """Return a score without a value, and the reason."""
    reason = reason.replace("\x00", "\ufffd")[:MAX_SHORT_TEXT]
    return scored(criterion, not_judged=code, reason=reason, **said)


def called(criterion: Criterion) -> dict[str, str | None]:
    """Return a criterion's name with its version: names outlive questions."""
    return {"name": criterion.name, "version": None if criterion.name is None else criterion.version}


# Scores that are found before a job reaches its last judge: by an embedder's worker, and by other models.
#
# The job carries them in its context, by the places of their criteria.

EMBEDDED: Final = "embedded"  # as the embedder's worker found them: without the criterion's name, and not yet drawn
JUDGED: Final = "judged"  # as they will stand in the receipt


def to_context(name: str, scores: Mapping[int, Score]) -> dict[str, Any]:
    """Return the scores as context for the job to carry."""
    found = {str(place): score.model_dump(mode="json", exclude_none=True) for place, score in scores.items()}
    return {name: found}


def from_context(name: str, context: Mapping[str, Any]) -> dict[int, Score]:
    """Return the scores that a job carries; none where nothing was found before."""
    return {int(place): Score.model_validate(score) for place, score in (context.get(name) or {}).items()}


def forgotten() -> dict[str, Any]:
    """Return the context without scores, for a job whose answer is made again."""
    return {EMBEDDED: None, JUDGED: None}


_WHOLE: Final = 2**64


def drawn(job_id: str, share: float) -> bool:
    """Return True if a job is in this share of all, by the hash of its id: a larger share holds a smaller one."""
    return int.from_bytes(hashlib.sha256(f"judged\n{job_id}".encode()).digest()[:8]) < share * _WHOLE


def may_be_judged(job_id: str, criterion: Criterion) -> bool:
    """Return True if a criterion is judged for this job, or may be once others are; False where it is known not to
    be.
    """
    return criterion.uncertain is not None or drawn(job_id, criterion.share)


def probability_of(criterion: Criterion, before: Mapping[str, Score]) -> float | None:
    """Return the probability with which a criterion is judged, given the scores `before`; None where it always is."""
    if criterion.uncertain is None:
        return None if criterion.share == 1.0 else criterion.share
    score = before.get(criterion.uncertain.criterion)
    if score is None or score.value is None or criterion.uncertain.low <= score.value <= criterion.uncertain.high:
        return 1.0
    return criterion.share


def left_out(criterion: Criterion, probability: float) -> Score:
    """Return the score of a criterion whose job was not drawn."""
    reason = f"the job is not among the {probability:.3g} of all that are judged by this"
    return unscored(criterion, NotJudged.NOT_SAMPLED, reason, probability=probability)


def rounds(criteria: Sequence[Criterion]) -> tuple[list[int], list[int]]:
    """Return the places of the criteria that are judged first, and of the criteria that depend on them."""
    first = [place for place, criterion in enumerate(criteria) if criterion.uncertain is None]
    return first, [place for place, criterion in enumerate(criteria) if criterion.uncertain is not None]


@dataclass(frozen=True, slots=True)
class Subject:
    """An output with all that a criterion may look at. `output` is None when moderation blocked it; `before` and
    `embedded` are scores that exist already, `elsewhere` the models that answer after this one. Without a `tenant` no
    provider is asked.
    """

    output: str | None
    criteria: tuple[Criterion, ...]
    question: str = ""
    reference: str | None = None
    context: str | None = None
    embedded: Mapping[int, Score] = field(default_factory=dict)
    before: Mapping[int, Score] = field(default_factory=dict)
    elsewhere: frozenset[str] = frozenset()
    other: str | None = None
    job_id: str = ""
    tenant: str | None = None

    def seen_by(self, criterion: Criterion) -> "Subject":
        """Return the subject as a criterion sees it: with the output that it brings, if it does."""
        return self if criterion.output is None else replace(self, output=criterion.output)

    @property
    def compared(self) -> str | None:
        """The text that the output is compared with: the other output, else the reference."""
        return self.reference if self.other is None else self.other

    def expected_by(self, criterion: Criterion) -> str | None:
        """Return the reference of a criterion: its own, else the job's."""
        own: str | None = getattr(criterion, "reference", None)
        return self.reference if own is None else own
