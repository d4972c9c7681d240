"""Criteria that a model answers, rubrics and comparisons: their prompts, and one call for a whole group and scale."""

import html
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, islice
from types import MappingProxyType
from typing import Any, Final, TypeVar

from headrace_schemas import HeadraceError, Message, NotJudged, Pairwise, Rubric, Sampling, Score
from headrace_schemas.criteria import Shown
from headrace_schemas.errors import ProviderNotAllowed, Unavailable
from headrace_schemas.limits import MAX_TEXT
from headrace_schemas.output_format import ChoiceFormat
from headrace_schemas.reasons import reason_of
from headrace_workers.core.log import Action
from headrace_workers.features.judging.scores import Subject, code_of, scored, unscored
from headrace_workers.models.generator import (
    Generator,
    LabelRequest,
    NoProbabilities,
    Request,
    provider_of,
)
from headrace_workers.models.verifiers.scale import (
    INSTRUCTIONS,
    YES_NO,
    Answer,
    Scale,
    Unanswered,
    as_data,
    read_answer,
    read_words,
)

_RESERVED_TOKENS = 256  # of the judge's context, for the instructions and the chat template
_CHARACTERS_PER_TOKEN = 2  # fewer than most tokenizers need; texts that are denser still are refused by the engine
_LEAST_ROOM = 500  # characters
_TAGS = 1_000  # characters of one message that are neither a text nor the question


SCALES: Mapping[str, Scale] = MappingProxyType(
    {
        "yes_no": YES_NO,
        "1-5": Scale(
            {"1": 0.0, "2": 0.25, "3": 0.5, "4": 0.75, "5": 1.0},
            "Answer with one digit from 1 (not at all) to 5 (completely).",
        ),
    }
)


def scale_of(of: Rubric) -> Scale:
    """Return the answers that a rubric permits: its labels, or the points of its scale. Equal scales are the same
    object."""
    return _labels(of.labels, of.passing) if of.labels else SCALES[of.scale]


@lru_cache
def _labels(labels: tuple[str, ...], passing: tuple[str, ...]) -> Scale:
    values = {label: float(label in passing) for label in labels}
    return Scale(values, f"Answer with one of these, and nothing else: {', '.join(labels)}.")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt for the judge, and whether a text had to be shortened for it."""

    messages: tuple[Message, ...]
    shortened: bool


def build_prompt(of: Rubric, subject: Subject, scale: Scale, *, context_length: int) -> Prompt:
    """Return the question about the subject's output, with what else is shown. Texts stand between tags with their
    angle brackets escaped, and the middle of a text too long for the judge's context is left out.
    """
    parts: list[tuple[Shown, str | None]] = [
        ("context", subject.context), ("input", subject.question), ("reference", subject.reference),
    ]  # fmt: skip
    given = [(tag, text) for tag, text in parts if text and tag in of.show]
    question = of.question if of.guidance is None else f"{of.question}\n{of.guidance}"
    room = room_of(question, context_length, sum(len(message.content) for message in of.messages))
    share = room // 2 // len(given) if given else 0
    output_room = max(room // 2, room - sum(min(share, len(html.escape(text, quote=False))) for _, text in given))
    blocks, shortened = [], False
    for tag, text, allowed in [*((t, x, share) for t, x in given), ("output", subject.output or "", output_room)]:
        data, cut = as_data(text, allowed)
        shortened |= cut
        blocks.append(f"<{tag}>\n{data}\n</{tag}>")
    ask = f"Question about the output: {question}\n{scale.request}"
    own = [message.content for message in of.messages if message.role == "system"]
    instructions = "\n\n".join([INSTRUCTIONS, *own, scale.request]) if own else INSTRUCTIONS + scale.request
    turns = [message for message in of.messages if message.role != "system"]
    last_turn = Message(role="user", content="\n\n".join([*blocks, ask]))
    return Prompt((Message(role="system", content=instructions), *_in_turns([*turns, last_turn])), shortened)


def _in_turns(messages: Sequence[Message]) -> Iterator[Message]:
    """Yield the messages, with consecutive ones of one role joined: many templates take only turns."""
    for role, same in groupby(messages, key=lambda message: message.role):
        yield Message(role=role, content="\n\n".join(message.content for message in same))


def room_of(question: str, context_length: int, taken: int = 0) -> int:
    """Return how many characters of texts fit into a judge's context beside a question and `taken` characters."""
    whole = min((context_length - _RESERVED_TOKENS) * _CHARACTERS_PER_TOKEN, MAX_TEXT - _TAGS)
    return max(_LEAST_ROOM, whole - len(question) - taken)


PAIR: Final = Scale({"A": 1.0, "B": 0.0}, "Answer with one letter: A or B.")  # the value is P(the first is better)
FLIPPED: Final = "the judge preferred another output when their order was turned round: that is no verdict"


def pair_question(criterion: Pairwise) -> str:
    """Return the question, with the criterion to decide it by."""
    return criterion.question if criterion.guidance is None else f"{criterion.question}\n{criterion.guidance}"


def preferred(ahead: float, behind: float) -> float | None:
    """Return 1.0 where the first output is better in both orders, 0.0 where the second is, 0.5 where neither is in
    either; None where the verdict changes with the order (Zheng et al. 2023, arXiv 2306.05685).
    """
    if ahead == behind == 0.5:
        return 0.5
    if ahead > 0.5 > behind:
        return 1.0
    return 0.0 if ahead < 0.5 < behind else None


def both_orders(question: str, about: str, first: str, second: str, *, context_length: int) -> tuple[Prompt, Prompt]:
    """Return the same question twice: with the first output first, and last."""
    return (
        build_pair(question, about, first, second, context_length=context_length),
        build_pair(question, about, second, first, context_length=context_length),
    )


def build_pair(question: str, about: str, first: str, second: str, *, context_length: int) -> Prompt:
    """Return the prompt that asks which of two outputs answers `about` better. Texts are data, as in rubrics."""
    room = room_of(question, context_length)
    blocks, shortened = [], False
    for tag, text, allowed in (("input", about, room // 4), ("A", first, room * 3 // 8), ("B", second, room * 3 // 8)):
        data, cut = as_data(text, allowed)
        shortened |= cut
        blocks.append(f"<{tag}>\n{data}\n</{tag}>")
    ask = f"Question about the outputs A and B: {question}\n{PAIR.request}"
    return Prompt(
        (
            Message(role="system", content=INSTRUCTIONS + PAIR.request),
            Message(role="user", content="\n\n".join([*blocks, ask])),
        ),
        shortened,
    )


_NO_JUDGE = "no model judges here: name one in the criterion, or set HEADRACE_JUDGE_MODEL"
_NO_OTHER = "the job gave no other output to compare with: set `other`, or a reference"
_SHORTENED = "the judge saw a shortened text: the whole did not fit into its context"

# A model without probabilities writes its answer. Some think first, and that counts as tokens of the answer.
_IN_WORDS: Final = Sampling(max_tokens=1_024)

T = TypeVar("T")
Position = tuple[int, int]  # of a subject in its group, and of a criterion in its subject
Asked = Mapping[Position, Rubric | Pairwise]
_AnswerOrError = Answer | HeadraceError
Found = dict[Position, Score | HeadraceError]  # an error may pass: the subject is worth another try


@dataclass(frozen=True, slots=True)
class _Question:
    """The prompts that a criterion puts to the model (two for a pair), their scale, and the tenant of the texts."""

    criterion: Rubric | Pairwise
    prompts: tuple[Prompt, ...]
    scale: Scale
    tenant: str | None


def ask_all(asked: Asked, subjects: Sequence[Subject], generator: Generator | None, fault: str | None = None) -> Found:
    """Return the score of each criterion, or an error that may pass. A model with a `fault` is not asked. Raises what
    the model raises while there are others in the call: a smaller group can tell who was hit.
    """
    found: Found = {}
    by_scale: dict[int, dict[Position, _Question]] = defaultdict(dict)
    for place, criterion in asked.items():
        subject = subjects[place[0]].seen_by(criterion)
        if isinstance(judge := _unasked(criterion, subject, generator, fault), Score):
            found[place] = judge
            continue
        question = _question(criterion, subject, judge.context_length)
        by_scale[id(question.scale)][place] = question
    if generator is not None:
        for questions in by_scale.values():
            found |= _ask(generator, questions)
    return found


def _unasked(
    criterion: Rubric | Pairwise, subject: Subject, generator: Generator | None, fault: str | None
) -> Score | Generator:
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
    if fault is not None:
        reason = f"{generator.alias} failed `headrace bench judge`, so that its scores would say nothing: {fault}"
        return unscored(criterion, NotJudged.UNTRUSTED, reason, model=generator.alias)
    return generator


def _question(criterion: Rubric | Pairwise, subject: Subject, context_length: int) -> _Question:
    if isinstance(criterion, Pairwise):
        prompts = both_orders(
            pair_question(criterion),
            subject.question,
            subject.output or "",
            subject.compared or "",
            context_length=context_length,
        )
        return _Question(criterion, prompts, PAIR, subject.tenant)
    scale = scale_of(criterion)
    prompt = build_prompt(criterion, subject, scale, context_length=context_length)
    return _Question(criterion, (prompt,), scale, subject.tenant)


def _ask(generator: Generator, questions: Mapping[Position, _Question]) -> Found:
    """Ask all questions of one scale, and return their scores."""
    scale = next(iter(questions.values())).scale
    try:
        answers = _answers(generator, list(questions.values()), scale)
    except ValueError as error:  # the port's word for: the model's tokens do not tell the labels apart
        reason = f"the model {generator.alias} cannot judge on this scale: {error}"[:500]
        return {
            place: unscored(question.criterion, NotJudged.WRONG_SCALE, reason) for place, question in questions.items()
        }
    except Exception as error:
        passing = isinstance(error, HeadraceError) and error.category.retryable
        if not passing and len({i for i, _ in questions}) > 1:
            raise
        # One subject alone was hit: its other criteria have their scores all the same.
        found = trouble(error)
        return {place: _lasting(found, question.criterion, generator) for place, question in questions.items()}
    rest = iter(answers)
    return {
        place: _read(question, [*islice(rest, len(question.prompts))], generator)
        for place, question in questions.items()
    }


def _answers(generator: Generator, questions: Sequence[_Question], scale: Scale) -> list[_AnswerOrError]:
    """Return the answer to each prompt, by probabilities, or in words where the model gives none."""
    labels = tuple(scale.values)
    requests = [
        LabelRequest(prompt.messages, labels, question.tenant, scale.whole)
        for question in questions
        for prompt in question.prompts
    ]
    try:
        scores = generator.label_probabilities(requests)
    except NoProbabilities:
        one_of_them = ChoiceFormat(choices=labels)  # an engine that cannot make sure of it answers freely
        choices = [Request(request.messages, _IN_WORDS, request.tenant, output=one_of_them) for request in requests]
        written = generator.generate(choices)
        return [_of(lambda said: read_words(said.text, scale), completion) for completion in written]
    return [_of(lambda said: read_answer(said.masses, scale), score) for score in scores]


def _of(read: Callable[[T], Answer], said: T | HeadraceError) -> _AnswerOrError:
    """Return what a model's words or probabilities mean, or why they mean nothing."""
    if isinstance(said, HeadraceError):
        return said
    try:
        return read(said)
    except Unanswered as error:
        return error


def _read(question: _Question, answers: Sequence[_AnswerOrError], generator: Generator) -> Score | HeadraceError:
    criterion, by = question.criterion, judged_by(generator)
    read: list[Answer] = []
    for answer in answers:
        if isinstance(answer, HeadraceError):
            return _lasting(answer, criterion, generator)
        read.append(answer)
    masses = [item.mass for item in read if item.mass is not None]
    note = _SHORTENED if any(prompt.shortened for prompt in question.prompts) else None
    by |= {"mass": min(masses, default=None), "method": "probabilities" if masses else "answer", "note": note}
    if isinstance(criterion, Rubric):
        return scored(criterion, value=read[0].value, **by)
    value = preferred(*(item.value for item in read))
    if value is None:
        return unscored(criterion, NotJudged.ORDER, FLIPPED, **by)
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
