"""A criterion from a file, and a trial of it on past outputs: its scores next to the former scores, drift, and verdicts
that change.
"""

import json
import math
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from pydantic import ValidationError
from pydantic_core import from_json

from headrace_schemas import Criterion, EvaluationJob, GenerationJob, Pairwise, Rubric, Score
from headrace_schemas.codec import decode_job
from headrace_schemas.errors import ConfigurationError, InvalidRecord
from headrace_schemas.model import Value
from headrace_schemas.reasons import describe
from headrace_workers.features.judging.admission import check_criteria
from headrace_workers.features.judging.scores import Subject
from headrace_workers.features.judging.scoring import score_all
from headrace_workers.models.generator import Generator
from headrace_workers.stats.comparison import Comparison, compare, mean
from headrace_workers.stats.estimates import Estimate, Undefined

_LONGEST_FILE: Final = 100_000  # bytes


class _CriterionFile(Value):
    """A criterion as a job has it, so that errors have the same words."""

    criteria: tuple[Criterion]


def read_criterion(path: Path) -> Criterion:
    """Return the criterion in a file; without a name of its own, the file's. Raise ConfigurationError."""
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST_FILE + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _LONGEST_FILE:
        raise ConfigurationError(f"{path} has more than {_LONGEST_FILE:,} bytes, which no criterion needs")
    try:
        table = tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8: byte {error.start} cannot be read") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path} is no TOML: {error}") from error
    criterion = {"name": path.stem, "criterion": "rubric", **table}
    document = json.dumps({"criteria": [criterion]}, default=str).encode()
    try:
        found = _CriterionFile.model_validate_json(document, strict=True).criteria
        check_criteria(found)
    except (ValidationError, InvalidRecord) as error:
        why = describe(error, document) if isinstance(error, ValidationError) else str(error)
        raise ConfigurationError(f"{path}: {why.replace('criteria.0.', '')}") from None
    return found[0]


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
            self.moved.sort(key=lambda turned: abs(turned.now - turned.before), reverse=True)
            del self.moved[self.examples :]


def past_of(job_id: str, kind: str, payload: bytes, end: bytes, called: str) -> Past | None:
    """Return the output of an ended job; None where moderation withheld it, and for a job that a trial made."""
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
    mine = [score for score in scores if (score.get("name") or score["criterion"]) == called]
    label = mine[0] if len(mine) == 1 else {}
    return Past(job_id, job.tenant, subject, label.get("value"), label.get("not_judged"))


def asked_by(criterion: Criterion, model: str | None) -> Criterion:
    """Return the criterion as a trial asks it: of all outputs, whatever its share, and of this model if it asks one."""
    changes = _ALWAYS | {"name": TRIED} | ({"model": model} if isinstance(criterion, Rubric | Pairwise) else {})
    return criterion.model_copy(update=changes)


def tried(
    found: Iterable[Past], criterion: Criterion, generator: Generator | None, trial: Trial, fault: str | None = None
) -> Iterator[int]:
    """Judge all by this criterion, whatever its share, by the model that is given; yields how many at a time. `fault`
    is why that model failed its probe as a judge.
    """
    judge = asked_by(criterion, None)
    rest = iter(found)
    while group := [*islice(rest, _AT_ONCE)]:
        subjects = [replace(row.subject, criteria=(judge,), tenant=row.tenant) for row in group]
        for past, scored in zip(group, score_all(subjects, generator, fault), strict=True):
            trial.note(past, scored.scores[0])
        yield len(group)
