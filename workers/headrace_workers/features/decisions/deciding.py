"""How a model decides questions: what it is asked, and the probabilities that it gives to their labels."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import Final, Protocol, runtime_checkable

from headrace_schemas import Category, HeadraceError, Message, Sampling, Usage
from headrace_schemas.errors import PromptTooLong, Unparsable
from headrace_schemas.limits import MAX_COMPLETION_TOKENS
from headrace_workers.features.decisions.prompts import Question, ask, ask_in_words, labels_of
from headrace_workers.features.decisions.temperatures import Calibration, Temperatures, digest_of, tempered
from headrace_workers.models.generator import (
    Completion,
    Generator,
    LabelRequest,
    LabelScores,
    NoProbabilities,
    RemoteSource,
    Request,
    TokenChoices,
    never,
    unbarred,
)
from headrace_workers.models.token_bounds import tokens_at_most

_ANSWER: Final = re.compile(r'"(\d{1,3})"\s*:\s*\{\s*"answer"\s*:\s*"')
_UNCLEAR: Final = 0.01  # probability of tokens with which several labels may begin: above it, no label's is known


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """Questions about one input. The fields after them are as of `Request`."""

    messages: tuple[Message, ...]
    questions: tuple[Question, ...]
    tenant: str | None = None
    given_up: Callable[[], bool] = field(default=never, compare=False)
    at_most: float | None = None
    patient: bool = True
    barred: Callable[[], float] = field(default=unbarred, compare=False)


@dataclass(frozen=True, slots=True)
class QuestionScores:
    """The probabilities of a question's labels in their order, which sum to 1. `mass` is their sum before that;
    `calibration` was applied to the `raw` ones; `stated`: the model wrote them in words.
    """

    probabilities: tuple[float, ...]
    mass: float | None
    stated: bool = False
    calibrated: bool = False
    calibration: Calibration | None = None
    raw: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Decided:
    """The scores of each question, or its error; None if the model does not answer it; and the tokens."""

    answers: tuple[QuestionScores | HeadraceError | None, ...]
    prompt_tokens: int
    completion_tokens: int
    remote: RemoteSource | None = None


@runtime_checkable
class Decides(Protocol):
    """A generator that decides by itself."""

    def decide(self, requests: Sequence[DecisionRequest]) -> list[Decided | HeadraceError]:
        """Decide all; the i-th item belongs to the i-th request. An error value concerns that request alone."""


MIN_MASS: Final = 0.05
"""Below it the model did not answer in the labels, and what is left of its probability is noise: a refusal."""

_TOGETHER: Final = 16  # questions that are answered in words at once
_TOKENS_OF_ANSWER: Final = 32  # in words; a label's own are added
_THOUGHTS: Final = 1_024  # tokens of a model that thinks first, which count as those of its answer


def uncalibrated(_tenant: str, _quantization: str) -> Mapping[str, Calibration]:
    """Return no calibrations."""
    return {}


def decide_all(
    generator: Generator, requests: Sequence[DecisionRequest], temperatures: Temperatures = uncalibrated
) -> list[Decided | HeadraceError]:
    """Let a model decide all requests; the i-th item belongs to the i-th request. Probabilities of labels are read at
    the fitted `temperatures`; a model that gives none answers in words.
    """
    if isinstance(generator, Decides):
        return generator.decide(requests)
    asked = [
        LabelRequest(prompt.messages, prompt.labels, request.tenant, prompt.whole, request.given_up, request.at_most)
        for request in requests
        for prompt in (ask(request.messages, question) for question in request.questions)
    ]
    try:
        scores = iter(_label_scores(generator, asked))
    except NoProbabilities:
        return _in_words(generator, requests)
    return [
        _decided(
            list(islice(scores, len(request.questions))),
            request.questions,
            temperatures(request.tenant, generator.quantization) if request.tenant else {},
        )
        for request in requests
    ]


def _label_scores(generator: Generator, asked: Sequence[LabelRequest]) -> list[LabelScores | HeadraceError]:
    try:
        return generator.label_probabilities(asked)
    except NoProbabilities:
        raise
    except ValueError as error:  # the port's word for: some labels cannot be told apart
        if len(asked) == 1:
            return [Undecidable(f"{generator.alias} cannot answer a question: {error}"[:500])]
    half = len(asked) // 2
    return _label_scores(generator, asked[:half]) + _label_scores(generator, asked[half:])


class Undecidable(HeadraceError):
    """A question whose labels are the same to a model."""

    category = Category.REROUTABLE


def _if_asked(decided: Decided | HeadraceError) -> Decided | HeadraceError:
    """Return what a model decided; the error of the first question where it could be asked none of them."""
    if isinstance(decided, HeadraceError):
        return decided
    errors = [answer for answer in decided.answers if isinstance(answer, HeadraceError)]
    return errors[0] if errors and len(errors) == len(decided.answers) else decided


def _decided(
    scores: Sequence[LabelScores | HeadraceError],
    questions: Sequence[Question],
    temperatures: Mapping[str, Calibration],
) -> Decided | HeadraceError:
    answers: list[QuestionScores | HeadraceError | None] = []
    read = written = 0
    for label_scores, question in zip(scores, questions, strict=True):
        if isinstance(label_scores, PromptTooLong | Undecidable):
            answers.append(label_scores)
            continue
        if isinstance(label_scores, HeadraceError):
            return label_scores
        read, written = read + label_scores.prompt_tokens, written + label_scores.label_tokens
        answers.append(_scores(label_scores.masses, temperatures.get(digest_of(question)) if temperatures else None))
    return _if_asked(Decided(tuple(answers), read, written))


def _scores(masses: Sequence[float], calibration: Calibration | None = None) -> QuestionScores | None:
    if (mass := math.fsum(masses)) < MIN_MASS:
        return None
    raw = tuple(value / mass for value in masses)
    if calibration is None:
        return QuestionScores(raw, min(1.0, mass))
    shares = tempered(raw, calibration.temperature, calibration.bias)
    return QuestionScores(shares, min(1.0, mass), calibrated=calibration.labelled, calibration=calibration, raw=raw)


def _in_words(generator: Generator, requests: Sequence[DecisionRequest]) -> list[Decided | HeadraceError]:
    """Let a model write its answers, some questions at once, and state how sure it is of each."""
    parts = [
        (index, request.questions[start : start + _TOGETHER])
        for index, request in enumerate(requests)
        for start in range(0, len(request.questions), _TOGETHER)
    ]
    by_request: list[list[Decided | HeadraceError]] = [[] for _ in requests]
    for (index, _), decided in zip(parts, _ask_parts(generator, requests, parts), strict=True):
        by_request[index].append(decided)
    return [_if_asked(_joined(answers)) for answers in by_request]


def _ask_parts(
    generator: Generator, requests: Sequence[DecisionRequest], parts: Sequence[tuple[int, tuple[Question, ...]]]
) -> list[Decided | HeadraceError]:
    """Return the answers to parts, each with the place of its request. A part that is too long is asked in halves."""
    written = generator.generate([_written_request(requests[index], questions) for index, questions in parts])
    found: list[Decided | HeadraceError] = []
    for (index, questions), said in zip(parts, written, strict=True):
        if isinstance(said, PromptTooLong) and len(questions) > 1:
            half = len(questions) // 2
            halves = ((index, questions[:half]), (index, questions[half:]))
            found.append(_joined(_ask_parts(generator, requests, halves)))
        elif isinstance(said, PromptTooLong):
            found.append(Decided((said,), 0, 0))
        else:
            found.append(said if isinstance(said, HeadraceError) else _stated(said, questions))
    return found


def most_tokens(messages: tuple[Message, ...], questions: Sequence[Question], carried: int = 0) -> int:
    """Return the most tokens that deciding these questions may read and write, whatever tokenizer counts them: in
    words, which takes more. Each call reads the bytes that the job `carried` to its model.
    """
    starts = range(0, len(questions), _TOGETHER)
    calls = [_written_request(DecisionRequest(messages, ()), questions[start : start + _TOGETHER]) for start in starts]
    return sum(
        tokens_at_most(call.messages, call.output, (), call.sampling.max_tokens, carried=carried) for call in calls
    )


def _written_request(request: DecisionRequest, questions: Sequence[Question]) -> Request:
    messages, output = ask_in_words(request.messages, questions)
    longest = sum(max(map(len, labels_of(question))) + _TOKENS_OF_ANSWER for question in questions)
    return Request(
        messages,
        Sampling(temperature=0, max_tokens=min(MAX_COMPLETION_TOKENS, _THOUGHTS + longest)),
        request.tenant,
        request.given_up,
        request.at_most,
        request.patient,
        request.barred,
        output,
        logprobs=True,
    )


def _stated(said: Completion, questions: Sequence[Question]) -> Decided | HeadraceError:
    """Return the probabilities of the tokens that a model wrote where its provider tells them, else those that it
    stated: the rest of its certainty is divided among the other labels.
    """
    usage = Usage(prompt_tokens=said.prompt_tokens, completion_tokens=said.completion_tokens)
    try:
        answers = json.loads(said.text)
        scores: list[QuestionScores | None] = [
            _certain(labels_of(question), answers[str(number)]["answer"], float(answers[str(number)]["percent"]) / 100)
            for number, question in enumerate(questions, 1)
        ]
        if said.tokens:
            masses = written_labels(said.tokens, [labels_of(question) for question in questions])
            scores = [score if mass is None else _scores(mass) for score, mass in zip(scores, masses, strict=True)]
    except (ValueError, TypeError, KeyError, RecursionError):
        error = Unparsable("the model did not answer the questions in the format that it was asked for", usage=usage)
        error.billed = True
        return error
    return Decided(tuple(scores), said.prompt_tokens, said.completion_tokens, said.remote)


def _certain(labels: Sequence[str], answer: str, sure: float) -> QuestionScores:
    place, least = labels.index(answer), 1 / len(labels)
    if not 0 <= sure <= 1:
        raise ValueError("a probability is between 0 and 1")
    sure = max(sure, least)  # its answer is the likeliest one
    rest = (1 - sure) / (len(labels) - 1)
    return QuestionScores(tuple(sure if number == place else rest for number in range(len(labels))), None, stated=True)


def _joined(parts: Sequence[Decided | HeadraceError]) -> Decided | HeadraceError:
    answers: list[QuestionScores | HeadraceError | None] = []
    read = written = 0
    remote: RemoteSource | None = None
    for part in parts:
        if isinstance(part, HeadraceError):
            return part
        answers += part.answers
        read, written, remote = read + part.prompt_tokens, written + part.completion_tokens, part.remote or remote
    return Decided(tuple(answers), read, written, remote)


def written_labels(tokens: Sequence[TokenChoices], labels: Sequence[Sequence[str]]) -> list[tuple[float, ...] | None]:
    """Return the probability of each label of each question, of answers in the format of `ask_in_words`; None for a
    question whose labels cannot be told apart by one token, or whose answer is not found.
    """
    text, ends = "".join(token.text for token in tokens), list(accumulate(len(token.text) for token in tokens))
    begins = {int(found[1]): found.end() for found in _ANSWER.finditer(text)}
    masses: list[tuple[float, ...] | None] = []
    for number, theirs in enumerate(labels, 1):
        begin = begins.get(number, len(text))
        place = next((index for index, end in enumerate(ends) if end > begin), None)
        masses.append(
            None if place is None else _masses(tokens[place], begin - ends[place] + len(tokens[place].text), theirs)
        )
    return masses


def _masses(token: TokenChoices, before: int, labels: Sequence[str]) -> tuple[float, ...] | None:
    """Return the masses by a token, of which so many characters stand before the label."""
    written = [f'{json.dumps(label, ensure_ascii=False)[1:-1]}"' for label in labels]
    masses, unclear = [0.0] * len(labels), 0.0
    for text, probability in token.likely.items():
        label = text[before:]
        if not label or text[:before] != token.text[:before]:
            continue
        fitting = [place for place, whole in enumerate(written) if whole.startswith(label) or label.startswith(whole)]
        if len(fitting) == 1:
            masses[fitting[0]] += probability
        elif fitting:
            unclear += probability
    return None if unclear > _UNCLEAR or not math.fsum(masses) else tuple(masses)
