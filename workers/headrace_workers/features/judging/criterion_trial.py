"""A trial of a criterion on past outputs: its scores next to the former scores, drift, and verdicts that change.
Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, NamedTuple

import numpy as np
from pydantic_core import from_json

from headrace_schemas import Criterion, EvaluationJob, GenerationJob, Pairwise, Rubric, Score
from headrace_schemas.codec import decode_job
from headrace_workers.core.ports import Generator
from headrace_workers.features.judging.score import score_all
from headrace_workers.features.judging.subject import Subject
from headrace_workers.features.quality.comparison import Comparison, compare, mean
from headrace_workers.features.quality.estimates import Estimate, Undefined

KINDS: Final[Mapping[str, str]] = {"outputs": "generation", "evaluations": "evaluation"}
_AT_ONCE: Final = 16  # outputs, in one call of a model
_YES: Final = 0.5  # and more
_ALWAYS: Final = {"share": 1.0, "uncertain": None}
TRIED: Final = "judge_try"  # what a trial calls its criterion: nobody labels that, and its scores are no verdicts


class Past(NamedTuple):
    """An output, and what was said of it by the criterion that is called alike: a value, a code, or nothing."""

    job_id: str
    tenant: str
    subject: Subject
    value: float | None
    not_judged: str | None


class Turned(NamedTuple):
    """An output whose score moved."""

    job_id: str
    before: float
    now: float
    output: str


@dataclass(eq=False, slots=True)
class Trial:
    """The results of a trial. `moved` has the largest changes, at most `examples` of them."""

    examples: int
    before: list[float] = field(default_factory=list)  # of outputs that have a value both times
    now: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)  # of all that have one now
    alone_before: int = 0  # a value then, and none now
    not_judged_before: Counter[str] = field(default_factory=Counter)
    not_judged_now: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)  # one of each code, of outputs that have no value now
    tried: int = 0
    moved: list[Turned] = field(default_factory=list)

    @property
    def to_yes(self) -> int:
        """The number of verdicts that changed from no to yes: 0.5 and more is yes."""
        return sum(a < _YES <= b for a, b in zip(self.before, self.now, strict=True))

    @property
    def to_no(self) -> int:
        """And the other way."""
        return sum(b < _YES <= a for a, b in zip(self.before, self.now, strict=True))

    @property
    def alone_now(self) -> int:
        """The number of outputs that have a value now, and had none then."""
        return len(self.values) - len(self.now)

    @property
    def mean(self) -> Estimate | Undefined:
        """Of the scores now, with an interval."""
        return mean(np.array(self.values))

    @property
    def drift(self) -> Comparison | Undefined:
        """By how much scores are higher now, with an interval."""
        return compare(np.array(self.before), np.array(self.now))

    def note(self, past: Past, score: Score) -> None:
        """Count one."""
        self.tried += 1
        if past.value is None:
            self.not_judged_before[past.not_judged or "not_asked"] += 1
        if score.value is None:
            code = str(score.not_judged)
            self.not_judged_now[code] += 1
            self.reasons.setdefault(code, score.reason or "")
        else:
            self.values.append(score.value)
        if past.value is None or score.value is None:
            self.alone_before += past.value is not None
            return
        self.before.append(past.value)
        self.now.append(score.value)
        if not math.isclose(past.value, score.value, abs_tol=1e-9):
            self.moved.append(Turned(past.job_id, past.value, score.value, past.subject.output or ""))
            self.moved.sort(key=lambda each: abs(each.now - each.before), reverse=True)
            del self.moved[self.examples :]


def past_of(job_id: str, kind: str, payload: bytes, end: bytes, called: str) -> Past | None:
    """Return the output of a job that ended.

    Return None where moderation withheld it, and for a job that a trial made.
    """
    job, receipt = decode_job(kind, payload), from_json(end)
    given: dict[str, Any]
    match job:
        case EvaluationJob() if job.criteria[0].name == TRIED:
            return None
        case EvaluationJob():
            given = {"output": job.output, "question": job.input, "context": job.context}
        case GenerationJob():
            given = {"output": (receipt.get("answer") or {}).get("text"), "question": job.question}
        case _:
            return None
    if given["output"] is None:
        return None
    subject = Subject(**given, criteria=(), reference=job.reference, other=job.other, job_id=job_id)
    scores = (receipt.get("judge") or {}).get("scores", ())
    mine = [each for each in scores if (each.get("name") or each["criterion"]) == called]
    label = mine[0] if len(mine) == 1 else {}
    return Past(job_id, job.tenant, subject, label.get("value"), label.get("not_judged"))


def asked_by(criterion: Criterion, model: str | None) -> Criterion:
    """Return the criterion as a trial asks it: of all outputs, whatever its share, and of this model if it asks one."""
    changes = _ALWAYS | {"name": TRIED} | ({"model": model} if isinstance(criterion, Rubric | Pairwise) else {})
    return criterion.model_copy(update=changes)


def tried(found: Iterable[Past], criterion: Criterion, generator: Generator | None, trial: Trial) -> Iterator[int]:
    """Judge all by this criterion, whatever its share, by the model that is given; yields how many at a time."""
    judge = asked_by(criterion, None)
    rest = iter(found)
    while group := [*islice(rest, _AT_ONCE)]:
        subjects = [replace(each.subject, criteria=(judge,), tenant=each.tenant) for each in group]
        for past, scored in zip(group, score_all(subjects, generator), strict=True):
            trial.note(past, scored.scores[0])
        yield len(group)
