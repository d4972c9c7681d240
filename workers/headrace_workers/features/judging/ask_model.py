"""Asking a model about the criteria that need one: a whole group in one call for each scale."""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from headrace_schemas import HeadraceError, NotJudged, Pairwise, Rubric, Sampling, Score
from headrace_schemas.errors import ProviderNotAllowed, Unavailable
from headrace_schemas.output_format import ChoiceFormat
from headrace_schemas.reasons import reason_of
from headrace_workers.core.log import Action
from headrace_workers.core.ports import Generator, NoProbabilities, Request, provider_of
from headrace_workers.features.generation.verifiers.scale import Answer, Scale, read_answer, read_words
from headrace_workers.features.judging import pairwise, rubric
from headrace_workers.features.judging.receipt_scores import scored, unscored
from headrace_workers.features.judging.subject import Subject
from headrace_workers.features.judging.unjudged import Unjudged, code_of

_NO_JUDGE = "no model judges here: name one in the criterion, or set HEADRACE_JUDGE_MODEL"
_NO_OTHER = "the job gave no other output to compare with: set `other`, or a reference"
_SHORTENED = "the judge saw a shortened text: the whole did not fit into its context"

# A model without probabilities writes its answer. Some think first, and that counts as tokens of the answer.
_IN_WORDS: Final = Sampling(max_tokens=1_024)

T = TypeVar("T")
Place = tuple[int, int]  # of a subject in its group, and of a criterion in its subject
Asked = Mapping[Place, Rubric | Pairwise]
_Answer = Answer | HeadraceError
Found = dict[Place, Score | HeadraceError]  # an error may pass: the subject is worth another try


@dataclass(frozen=True, slots=True)
class _Question:
    """The prompts that a criterion puts to the model (two for a pair), their scale, and the tenant of the texts."""

    criterion: Rubric | Pairwise
    prompts: tuple[rubric.Prompt, ...]
    scale: Scale
    tenant: str | None


def ask_all(asked: Asked, subjects: Sequence[Subject], generator: Generator | None) -> Found:
    """Return the score of each criterion, or an error that may pass.

    Raises what the model raises, as long as there are others in the call: then only a smaller group can tell who was
    hit. An error that may pass hits all.
    """
    found: Found = {}
    by_scale: dict[int, dict[Place, _Question]] = defaultdict(dict)
    for place, criterion in asked.items():
        subject = subjects[place[0]].seen_by(criterion)
        if isinstance(judge := _unasked(criterion, subject, generator), Score):
            found[place] = judge
            continue
        question = _question(criterion, subject, judge.context_length)
        by_scale[id(question.scale)][place] = question
    if generator is not None:
        for questions in by_scale.values():
            found |= _ask(generator, questions)
    return found


def _unasked(criterion: Rubric | Pairwise, subject: Subject, generator: Generator | None) -> Score | Generator:
    """Return the model to ask, or the score where no model is asked."""
    if isinstance(criterion, Pairwise):
        if subject.compared is None:
            return unscored(criterion, NotJudged.NO_OTHER, _NO_OTHER)
        if subject.output is not None and subject.output.strip() == subject.compared.strip():
            return scored(criterion, value=0.5, note="both outputs are the same")
    if generator is None:
        return unscored(criterion, NotJudged.NO_MODEL, _NO_JUDGE)
    if criterion.model not in (None, generator.alias):
        reason = f"the criterion asks for the model {criterion.model}, and {generator.alias} judges here"
        return unscored(criterion, NotJudged.OTHER_MODEL, reason)
    return generator


def _question(criterion: Rubric | Pairwise, subject: Subject, context_length: int) -> _Question:
    if isinstance(criterion, Pairwise):
        prompts = pairwise.both_orders(
            pairwise.question_of(criterion),
            subject.question,
            subject.output or "",
            subject.compared or "",
            context_length=context_length,
        )
        return _Question(criterion, prompts, pairwise.PAIR, subject.tenant)
    scale = rubric.scale_of(criterion)
    prompt = rubric.build_prompt(criterion, subject, scale, context_length=context_length)
    return _Question(criterion, (prompt,), scale, subject.tenant)


def _ask(generator: Generator, questions: Mapping[Place, _Question]) -> Found:
    """Ask all questions of one scale, and return their scores."""
    scale = next(iter(questions.values())).scale
    try:
        answers = _answers(generator, list(questions.values()), scale)
    except ValueError as error:  # the port's word for: the model's first tokens do not tell the choices apart
        reason = f"the model {generator.alias} cannot judge on this scale: {error}"[:500]
        return {place: unscored(each.criterion, NotJudged.WRONG_SCALE, reason) for place, each in questions.items()}
    except Exception as error:
        passing = isinstance(error, HeadraceError) and error.category.retryable
        if not passing and len({i for i, _ in questions}) > 1:
            raise
        # One subject alone was hit: its other criteria have their scores all the same.
        found = trouble(error)
        return {place: _lasting(found, each.criterion, generator) for place, each in questions.items()}
    rest = iter(answers)
    return {place: _read(each, [*islice(rest, len(each.prompts))], generator) for place, each in questions.items()}


def _answers(generator: Generator, questions: Sequence[_Question], scale: Scale) -> list[_Answer]:
    """Return the answer to each prompt, by probabilities, or in words where the model gives none."""
    requests = [(prompt.messages, question.tenant) for question in questions for prompt in question.prompts]
    try:
        weighed = generator.choice_probabilities([messages for messages, _ in requests], tuple(scale.values))
    except NoProbabilities:
        one_of_them = ChoiceFormat(choices=tuple(scale.values))  # an engine that cannot make sure of it answers freely
        choices = [Request(messages, _IN_WORDS, tenant, output=one_of_them) for messages, tenant in requests]
        written = generator.generate(choices)
        return [_of(lambda said: read_words(said.text, scale), each) for each in written]
    return [_of(lambda said: read_answer(said, scale), each) for each in weighed]


def _of(read: Callable[[T], Answer], said: T | HeadraceError) -> _Answer:
    """Return what a model's words or probabilities mean, or why they mean nothing."""
    if isinstance(said, HeadraceError):
        return said
    try:
        return read(said)
    except Unjudged as error:
        return error


def _read(question: _Question, answers: Sequence[_Answer], generator: Generator) -> Score | HeadraceError:
    criterion, by = question.criterion, judged_by(generator)
    read: list[Answer] = []
    for answer in answers:
        if isinstance(answer, HeadraceError):
            return _lasting(answer, criterion, generator)
        read.append(answer)
    masses = [each.mass for each in read if each.mass is not None]
    note = _SHORTENED if any(prompt.shortened for prompt in question.prompts) else None
    by |= {"mass": min(masses, default=None), "method": "probabilities" if masses else "answer", "note": note}
    if isinstance(criterion, Rubric):
        return scored(criterion, value=read[0].value, **by)
    value = pairwise.preferred(*(each.value for each in read))
    if value is None:
        return unscored(criterion, NotJudged.ORDER, pairwise.FLIPPED, **by)
    return scored(criterion, value=value, **by)


def judged_by(generator: Generator) -> dict[str, Any]:
    """Return the fields of a score that say which model judged, and whose machine read the text."""
    return {"model": generator.alias, "provider": provider_of(generator)}


def trouble(error: Exception) -> HeadraceError:
    """Return an unknown error as one that may pass. Its text may quote users, so it stays in this machine's log."""
    if isinstance(error, HeadraceError):
        return error
    logging.getLogger("headrace.judge").error("judging failed", exc_info=error, extra={"action": Action.STEP_FAILED})
    return Unavailable(f"judging failed with {type(error).__name__}; see the worker's log")


def _lasting(error: HeadraceError, criterion: Rubric | Pairwise, generator: Generator) -> Score | HeadraceError:
    """Return the error itself when it may pass, else a score with the error as its reason."""
    if error.category.retryable:
        return error
    by = {"model": generator.alias} if isinstance(error, ProviderNotAllowed) else judged_by(generator)
    return unscored(criterion, code_of(error), reason_of(error), **by)
