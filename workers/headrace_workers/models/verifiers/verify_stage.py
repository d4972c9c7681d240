"""The stage in which a model verifies pairs of texts that another stage's step asks about: it is asked a question that
yes or no answers, and their probabilities are the verdict. The job then goes back to that stage with the verdicts. The
model's call is reserved and charged as that of every stage of a model.
"""

import html
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from headrace_schemas import HeadraceError, Message, Sampling, Usage
from headrace_schemas.errors import Unavailable
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.output_format import ChoiceFormat
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Done, Outcome
from headrace_workers.core.pipeline.receipt import seen_by
from headrace_workers.core.pipeline.stage import ReadBytes, Stage, Weight
from headrace_workers.core.pipeline.task import Job, Task
from headrace_workers.models.generator import (
    Completion,
    Generator,
    LabelRequest,
    NoProbabilities,
    Request,
    Unseen,
    provider_of,
)
from headrace_workers.models.verifiers.scale import (
    INSTRUCTIONS,
    YES_NO,
    Answer,
    Unanswered,
    as_data,
    read_answer,
    read_words,
)
from headrace_workers.models.verifiers.verifier import Relation, TextPair, Verdict, Verifier

T = TypeVar("T")

_RESERVED_TOKENS: Final = 256  # of the context, for instructions, question and chat template
_CHARACTERS_PER_TOKEN: Final = 2
_IN_WORDS: Final = Sampling(max_tokens=1_024, temperature=0)  # some models think before they answer
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
IN_PROCESS: Final = "sentence-transformers:"  # before the name of a verifier that runs in the process that asks it
_PAIRS, _SAID = "to_verify", "verified"  # two names in the context of a step
_AT_ONCE: Final = 8  # pairs of a call: between two calls it is seen whether the time is over
_AROUND: Final = 1_500  # tokens of a pair: instructions and question, and an answer in words
ModelOf: TypeAlias = Callable[[str, Job, str | None], str | None]


def within(name: str, most_seconds: float | None, answer: Callable[[], T]) -> tuple[T, float] | HeadraceError:
    """Return what a verifier answers, and after how many seconds; or why it has not answered: it failed, or took more
    than `most_seconds`.
    """
    began = time.monotonic()
    try:
        found = answer()
    except HeadraceError as error:
        return error
    except Exception as error:  # a library raises whatever its parts do; its text may quote users
        return Unavailable(f"the verifier {name} failed with {type(error).__name__}")
    took = time.monotonic() - began
    if most_seconds is not None and took > most_seconds:
        return Unavailable(f"the verifier {name} took {took:.1f} s; it may take {most_seconds:g} s")
    return found, took


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
        return [answer if isinstance(answer, HeadraceError) else replace(answer, ms=took * 1000) for answer in answers]

    def _answers(self, pairs: Sequence[TextPair]) -> list[Verdict | HeadraceError]:
        prompts = [_question_about(pair, self._generator.context_length) for pair in pairs]
        asked = [
            (pair, prompt) for pair, prompt in zip(pairs, prompts, strict=True) if not isinstance(prompt, Unanswered)
        ]
        answers = iter(self._asked(asked) if asked else ())
        return [prompt if isinstance(prompt, Unanswered) else next(answers) for prompt in prompts]

    def _asked(self, asked: Sequence[tuple[TextPair, tuple[Message, ...]]]) -> list[Verdict | HeadraceError]:
        try:
            scores = self._generator.label_probabilities(
                [LabelRequest(prompt, tuple(YES_NO.values), pair.tenant, YES_NO.whole) for pair, prompt in asked]
            )
        except NoProbabilities:  # a provider's model, too: a prompt without its tenant is not sent
            one_of_them = ChoiceFormat(choices=tuple(YES_NO.values))
            requests = [
                Request(prompt, _IN_WORDS, pair.tenant, output=one_of_them, at_most=self._most_seconds, patient=False)
                for pair, prompt in asked
            ]
            return [
                _verdict_in(completion, lambda said: read_words(said.text, YES_NO), _usage_of_answer)
                for completion in self._generator.generate(requests)
            ]
        return [_verdict_in(score, lambda said: read_answer(said.masses, YES_NO), lambda _: None) for score in scores]


def _verdict_in(
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


def _usage_of_answer(said: Completion) -> Usage:
    return Usage(prompt_tokens=said.prompt_tokens, completion_tokens=said.completion_tokens)


def _question_about(pair: TextPair, context_length: int) -> tuple[Message, ...] | Unanswered:
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


@dataclass(frozen=True, slots=True)
class Verification:
    """The verdicts about pairs of texts, in their order, each or why there is none; which model gave them, on whose
    machine, and how long it took (ms).
    """

    model: str
    provider: str | None
    verdicts: tuple[Verdict | HeadraceError, ...]
    ms: float


def model_of_verifier(name: str | None) -> str | None:
    """Return the model that a verifier's name means; None for one that runs in the process that asks it, or none."""
    return None if name is None or name.startswith(IN_PROCESS) else name


def verify_stage(name: str, order: int, back: str, *, model: ModelOf, most_pairs: int, most_seconds: float) -> Stage:
    """Return a stage in which a model verifies `most_pairs` at most of a job, which the stage `back` asks about.
    `model(job_id, job, judge)` returns the model of a job that may ask.
    """

    def most_tokens(_job: Job, read: ReadBytes) -> int:
        """Return the most tokens: the context has the texts of all pairs."""
        return tokens_at_most(read.total, most_pairs)

    return Stage(
        name=name,
        order=order,
        step=partial(verify, back=back, most_seconds=most_seconds),
        weight=Weight.MODEL,
        model=model,
        most_tokens=most_tokens,
    )


def tokens_at_most(read_bytes: int, pairs: int) -> int:
    """Return the most tokens of verifying so many pairs of so many bytes: no text has more tokens than bytes."""
    return read_bytes + pairs * _AROUND


def asking(pairs: Sequence[TextPair], stage: str, context: Mapping[str, Any]) -> Done:
    """Return the outcome of a step that asks about these pairs in this stage, and goes on with this context."""
    written = [[pair.relation.value, pair.first, pair.second, pair.about] for pair in pairs]
    return Done(context={**context, _PAIRS: written}, to=stage)


def verification(context: Mapping[str, Any]) -> Verification | None:
    """Return the verdicts that a job came back with, if it did."""
    said = context.get(_SAID)
    if said is None:
        return None
    verdicts = tuple(
        Unavailable(item) if isinstance(item, str) else Verdict(item[0], item[1], said["ms"]) for item in said["said"]
    )
    return Verification(said["model"], said["provider"], verdicts, said["ms"])


def forgotten() -> dict[str, Any]:
    """Return the context without verdicts, for a job whose step has read them."""
    return {_SAID: None}


def verify(tasks: Sequence[Task], *, generator: Generator, back: str, most_seconds: float) -> list[Outcome]:
    """Ask the model about the pairs of all tasks, for `most_seconds` at most; the i-th outcome belongs to the i-th
    task. A pair that is not answered in time has no verdict.
    """
    verifier = ModelVerifier(generator)
    ends = time.monotonic() + most_seconds
    return [_verified(task, verifier, generator, back, ends, most_seconds) for task in tasks]


def _verified(
    task: Task, verifier: Verifier, generator: Generator, back: str, ends: float, most_seconds: float
) -> Outcome:
    pairs = [
        TextPair(Relation(relation), first, second, task.job.tenant, about)
        for relation, first, second, about in task.context.get(_PAIRS) or ()
    ]
    began = time.monotonic()
    found = in_time(verifier, pairs, ends, most_seconds)
    said = {
        "model": verifier.name,
        "provider": provider_of(generator),
        "ms": round((time.monotonic() - began) * 1000, 1),
        "said": [
            reason_of(verdict)[:MAX_SHORT_TEXT] if isinstance(verdict, HeadraceError) else [verdict.value, verdict.mass]
            for verdict in found
        ],
    }
    provider = None if found and all(isinstance(verdict, Unseen) for verdict in found) else provider_of(generator)
    context = {_PAIRS: None, _SAID: said, **seen_by(task.context, provider)}
    return Done(context=context, to=back, usage=_usage(found))


def in_time(
    verifier: Verifier, pairs: Sequence[TextPair], ends: float, most_seconds: float
) -> list[Verdict | HeadraceError]:
    """Return the verdict of each pair that is answered before the monotonic clock shows `ends`."""
    found: list[Verdict | HeadraceError] = []
    over = f"the verifier {verifier.name} may take {most_seconds:g} s, and they were over"
    late = Unavailable(over)
    late.billed = True
    for start in range(0, len(pairs), _AT_ONCE):
        if time.monotonic() >= ends:
            return found + [Unavailable(over)] * (len(pairs) - start)
        answers = verifier.verify(pairs[start : start + _AT_ONCE])
        is_late = time.monotonic() >= ends
        found += [late if is_late and isinstance(answer, Verdict) else answer for answer in answers]
    return found


def _usage(found: Sequence[Verdict | HeadraceError]) -> Usage | None:
    """Return the tokens of these verdicts; None, so that the most is charged, where some that may be billed are not
    known.
    """
    usages = [verdict.usage for verdict in found if isinstance(verdict, Verdict) and verdict.usage is not None]
    if any(isinstance(verdict, HeadraceError) and verdict.billed for verdict in found):
        return None
    if any(usage.prompt_tokens == 0 for usage in usages):  # its provider said nothing
        return None
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in usages),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
    )
