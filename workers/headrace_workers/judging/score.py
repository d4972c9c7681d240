"""From criteria to scores: one score for each criterion, in the job's order."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace_schemas import (
    Bleu,
    ChrF,
    Contains,
    Criterion,
    ExactMatch,
    Grounded,
    HeadraceError,
    JsonSchema,
    JsonValid,
    Language,
    Length,
    NotJudged,
    Regex,
    Rouge,
    Rubric,
    Score,
    TokenF1,
)
from headrace_schemas.errors import Unavailable
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.reasons import reason_of
from headrace_workers.judging import checks, conforming, language, reference, rouge, rubric
from headrace_workers.judging.subject import Subject
from headrace_workers.judging.unjudged import Unanswered, code_of
from headrace_workers.log import Action
from headrace_workers.ports import Generator

_BLOCKED = "the output was blocked by moderation"
_NO_REFERENCE = "the job gave no reference to compare with"
_NOT_LOOKED_UP = "no worker looked it up: run one with the role recall, which has the embedder"
_NO_JUDGE = "no model judges here: name one in the rubric, or set HEADRACE_JUDGE_MODEL"
_SHORTENED = "the judge saw a shortened text: the whole did not fit into its context"

_Place = tuple[int, int]  # of a subject in its group, and of a criterion in its subject


@dataclass(frozen=True, slots=True)
class Scored:
    """A subject's scores. `trouble` is a passing one of the judge's model: the subject is worth another try.

    The scores stand also then, for when there is no other try: a criterion that the trouble hit has it as its reason.
    """

    scores: tuple[Score, ...]
    trouble: HeadraceError | None = None


def score_all(subjects: Sequence[Subject], generator: Generator | None) -> list[Scored]:
    """The scores of each subject; the i-th item belongs to the i-th subject.

    The rubrics of the whole group are asked in one call for each scale. Raises what the model raises, as long as
    there are others in the call: then only a smaller group can tell who was hit. An error that may pass hits all.
    """
    asked = {
        (i, j): criterion
        for i, subject in enumerate(subjects)
        for j, criterion in enumerate(subject.criteria)
        if isinstance(criterion, Rubric) and subject.output is not None
    }
    answered = _score_rubrics(asked, subjects, generator)
    return [_collect(i, subject, answered) for i, subject in enumerate(subjects)]


def score_plain(criterion: Criterion, subject: Subject) -> Score:
    """The score of a criterion that needs no model."""
    if subject.output is None:
        return _unscored(criterion, NotJudged.BLOCKED, _BLOCKED)
    note: str | None = None
    try:
        match criterion:
            case ExactMatch() | TokenF1() | ChrF() | Bleu() | Rouge():
                if subject.reference is None:
                    return _unscored(criterion, NotJudged.NO_REFERENCE, _NO_REFERENCE)
                value = _compared(criterion, subject.output, subject.reference)
            case Contains() | Regex() | JsonValid() | Language() | Length():
                value = _checked(criterion, subject.output)
            case JsonSchema():
                value, note = conforming.json_schema(subject.output, criterion.json_schema)
            case Grounded():
                found = subject.grounded
                if found is None:
                    return _unscored(criterion, NotJudged.NO_WORKER, _NOT_LOOKED_UP)
                return found.model_copy(update=_called(criterion))
            case Rubric():
                raise TypeError("a rubric needs a model: score_all asks it")
    except HeadraceError as error:
        return _unscored(criterion, code_of(error), reason_of(error))
    return _score(criterion, value=value, note=note)


def _compared(criterion: ExactMatch | TokenF1 | ChrF | Bleu | Rouge, output: str, expected: str) -> float:
    match criterion:
        case ExactMatch():
            return reference.exact_match(output, expected, ignore_case=criterion.ignore_case)
        case TokenF1():
            return reference.token_f1(output, expected)
        case ChrF():
            return reference.chrf(output, expected)
        case Bleu():
            return reference.bleu(output, expected)
        case Rouge(variant="l"):
            return rouge.rouge_l(output, expected)
        case Rouge():
            return rouge.rouge_n(output, expected, int(criterion.variant))


def _checked(criterion: Contains | Regex | JsonValid | Language | Length, output: str) -> float:
    match criterion:
        case Contains():
            return checks.contains(output, criterion.text, ignore_case=criterion.ignore_case)
        case Regex():
            return checks.regex(output, criterion.pattern)
        case JsonValid():
            return checks.json_valid(output)
        case Language():
            return language.language(output, criterion.language)
        case Length():
            return checks.length(output, min_words=criterion.min_words, max_words=criterion.max_words)


def _collect(i: int, subject: Subject, answered: dict[_Place, Score | HeadraceError]) -> Scored:
    scores: list[Score] = []
    trouble: HeadraceError | None = None
    for j, criterion in enumerate(subject.criteria):
        score = answered[i, j] if (i, j) in answered else _score_plain(criterion, subject)
        if isinstance(score, HeadraceError):
            trouble = trouble or score
            score = _unscored(criterion, NotJudged.FAILED, f"given up: {reason_of(score)}")
        scores.append(score)
    return Scored(tuple(scores), trouble)


def _score_plain(criterion: Criterion, subject: Subject) -> Score | HeadraceError:
    try:
        return score_plain(criterion, subject)
    except Exception as error:
        return _trouble(error)


def _score_rubrics(
    asked: dict[_Place, Rubric], subjects: Sequence[Subject], generator: Generator | None
) -> dict[_Place, Score | HeadraceError]:
    scores: dict[_Place, Score | HeadraceError] = {}
    by_scale: dict[str, list[_Place]] = defaultdict(list)
    for place, criterion in asked.items():
        if generator is None:
            scores[place] = _unscored(criterion, NotJudged.NO_MODEL, _NO_JUDGE)
        elif criterion.model not in (None, generator.alias):
            reason = f"the rubric asks for the model {criterion.model}, and {generator.alias} judges here"
            scores[place] = _unscored(criterion, NotJudged.OTHER_MODEL, reason)
        else:
            by_scale[criterion.scale].append(place)
    if generator is not None:
        for name, places in by_scale.items():
            scores |= _ask(generator, rubric.SCALES[name], {place: asked[place] for place in places}, subjects)
    return scores


def _ask(
    generator: Generator, scale: rubric.Scale, asked: dict[_Place, Rubric], subjects: Sequence[Subject]
) -> dict[_Place, Score | HeadraceError]:
    prompts = [
        rubric.build_prompt(criterion, subjects[i], scale, context_length=generator.context_length)
        for (i, _), criterion in asked.items()
    ]
    try:
        answers = generator.choice_probabilities([prompt.messages for prompt in prompts], tuple(scale.values))
    except ValueError as error:  # the port's word for: the model's first tokens do not tell the choices apart
        reason = f"the model {generator.alias} cannot judge on this scale: {error}"[:500]
        return {place: _unscored(criterion, NotJudged.WRONG_SCALE, reason) for place, criterion in asked.items()}
    except Exception as error:
        passing = isinstance(error, HeadraceError) and error.category.retryable
        if not passing and len({i for i, _ in asked}) > 1:
            raise
        # One subject alone was hit: its other criteria have their scores all the same.
        trouble = _trouble(error)
        return {place: _lasting(trouble, criterion, generator.alias) for place, criterion in asked.items()}
    return {
        place: _read(answer, prompt, criterion, scale, generator.alias)
        for (place, criterion), prompt, answer in zip(asked.items(), prompts, answers, strict=True)
    }


def _trouble(error: Exception) -> HeadraceError:
    """An unknown error as one that may pass. Its text may hold users' words: that stays in this machine's log."""
    if isinstance(error, HeadraceError):
        return error
    logging.getLogger("headrace.judge").error("judging failed", exc_info=error, extra={"action": Action.STEP_FAILED})
    return Unavailable(f"judging failed with {type(error).__name__}; see the worker's log")


def _lasting(error: HeadraceError, criterion: Rubric, alias: str) -> Score | HeadraceError:
    """The error itself when it may pass, else the score that it is the reason of."""
    return error if error.category.retryable else _unscored(criterion, code_of(error), reason_of(error), alias)


def _read(
    answer: tuple[float, ...] | HeadraceError, prompt: rubric.Prompt, criterion: Rubric, scale: rubric.Scale, alias: str
) -> Score | HeadraceError:
    if isinstance(answer, HeadraceError):
        return _lasting(answer, criterion, alias)
    try:
        read = rubric.read_answer(answer, scale)
    except Unanswered as error:
        return _unscored(criterion, error.code, reason_of(error), alias)
    note = _SHORTENED if prompt.shortened else None
    return _score(criterion, value=read.value, mass=read.mass, model=alias, note=note)


def _unscored(criterion: Criterion, code: NotJudged, reason: str, model: str | None = None) -> Score:
    reason = reason.replace("\x00", "\ufffd")[:MAX_SHORT_TEXT]
    return _score(criterion, not_judged=code, reason=reason, model=model)


def _score(criterion: Criterion, **said: Any) -> Score:
    return Score(criterion=criterion.criterion, **_called(criterion), **said)


def _called(criterion: Criterion) -> dict[str, str | None]:
    """A criterion's name, and with one its version, as names outlive questions."""
    return {"name": criterion.name, "version": None if criterion.name is None else criterion.version}
