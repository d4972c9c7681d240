"""A language model as a verifier: it is asked a question that yes or no answers, and its first token is the verdict."""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from headrace_schemas import HeadraceError, Message, Sampling, Usage
from headrace_schemas.output_format import ChoiceFormat
from headrace_workers.core.ports import (
    Completion,
    Generator,
    NoProbabilities,
    Relation,
    Request,
    TextPair,
    Verdict,
    provider_of,
)
from headrace_workers.features.generation.verifiers.answer_time import within
from headrace_workers.features.generation.verifiers.scale import (
    INSTRUCTIONS,
    YES_NO,
    Answer,
    Unanswered,
    as_data,
    read_answer,
    read_words,
)

_RESERVED_TOKENS: Final = 256  # of the context, for instructions, question and chat template
_CHARACTERS_PER_TOKEN: Final = 2
_IN_WORDS: Final = Sampling(max_tokens=1_024, temperature=0)  # some models think before they answer

T = TypeVar("T")

_TAGS: Final[Mapping[Relation, tuple[str, str]]] = {
    Relation.SAME_QUESTION: ("question_1", "question_2"),
    Relation.SAME_ANSWER: ("answer_1", "answer_2"),
    Relation.SUPPORTED: ("evidence", "claim"),
}
_QUESTIONS: Final[Mapping[Relation, str]] = {
    Relation.SAME_QUESTION: (
        "Do both questions ask for exactly the same thing, so that every right answer to question 1 is a right and "
        "complete answer to question 2?"
    ),
    Relation.SAME_ANSWER: "Do both answers say the same thing, with no fact, number or condition that differs?",
    Relation.SUPPORTED: "Does the evidence alone say everything that the claim says?",
}


class ModelVerifier:
    """A generator as a verifier. As thread-safe as its generator. One that is slower than `most_seconds` for the pairs
    of a call has not answered.

    A generator that gives no probabilities of tokens, such as a provider's, writes its answer, which is parsed.
    """

    def __init__(self, generator: Generator, most_seconds: float | None = None) -> None:
        self._generator = generator
        self._most_seconds = most_seconds

    @property
    def name(self) -> str:
        """The model's alias."""
        return self._generator.alias

    @property
    def provider(self) -> str | None:
        """Return whose machine reads the texts; None for a machine of the deployment."""
        return provider_of(self._generator)

    def verify(self, pairs: Sequence[TextPair]) -> list[Verdict | HeadraceError]:
        """Return a verdict for each pair, or why there is none."""
        if not pairs:
            return []
        found = within(self.name, self._most_seconds, lambda: self._answers(pairs))
        if isinstance(found, HeadraceError):
            return [found] * len(pairs)
        answers, took = found
        return [each if isinstance(each, HeadraceError) else replace(each, ms=took * 1000) for each in answers]

    def _answers(self, pairs: Sequence[TextPair]) -> list[Verdict | HeadraceError]:
        prompts = [_prompt(pair, self._generator.context_length) for pair in pairs]
        asked = [
            (pair, prompt) for pair, prompt in zip(pairs, prompts, strict=True) if not isinstance(prompt, Unanswered)
        ]
        answers = iter(self._asked(asked) if asked else ())
        return [each if isinstance(each, Unanswered) else next(answers) for each in prompts]

    def _asked(self, asked: Sequence[tuple[TextPair, tuple[Message, ...]]]) -> list[Verdict | HeadraceError]:
        try:
            weighed = self._generator.choice_probabilities([prompt for _, prompt in asked], tuple(YES_NO.values))
        except NoProbabilities:  # a provider's model, too: a prompt without its tenant is not sent
            one_of_them = ChoiceFormat(choices=tuple(YES_NO.values))
            requests = [
                Request(prompt, _IN_WORDS, pair.tenant, output=one_of_them, at_most=self._most_seconds, patient=False)
                for pair, prompt in asked
            ]
            return [
                _read(each, lambda said: read_words(said.text, YES_NO), _usage)
                for each in self._generator.generate(requests)
            ]
        return [_read(each, lambda said: read_answer(said, YES_NO), lambda _: None) for each in weighed]


def _read(
    said: T | HeadraceError, read: Callable[[T], Answer], usage: Callable[[T], Usage | None]
) -> Verdict | HeadraceError:
    if isinstance(said, HeadraceError):
        return said
    try:
        answer = read(said)
    except Unanswered as error:
        error.billed = True  # the model was asked
        return error
    return Verdict(answer.value, answer.mass, 0.0, usage(said))


def _usage(said: Completion) -> Usage:
    return Usage(prompt_tokens=said.prompt_tokens, completion_tokens=said.completion_tokens)


def _prompt(pair: TextPair, context_length: int) -> tuple[Message, ...] | Unanswered:
    """Return the question about a pair, whose texts are data between tags; Unanswered where they do not fit: a verifier
    must not judge what it has not read.
    """
    room = (context_length - _RESERVED_TOKENS) * _CHARACTERS_PER_TOKEN
    texts = list(zip(_TAGS[pair.relation], (pair.first, pair.second), strict=True))
    if pair.about is not None:
        texts.insert(0, ("question", pair.about))
    if sum(len(html.escape(text, quote=False)) for _, text in texts) > room:
        return Unanswered(f"the texts are longer than {room:,} characters, which is what the verifier reads")
    blocks = [f"<{tag}>\n{as_data(text, room)[0]}\n</{tag}>" for tag, text in texts]
    ask = f"{_QUESTIONS[pair.relation]}\n{YES_NO.request}"
    return (
        Message(role="system", content=INSTRUCTIONS + YES_NO.request),
        Message(role="user", content="\n\n".join([*blocks, ask])),
    )
