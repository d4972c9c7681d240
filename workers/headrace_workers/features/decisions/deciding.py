"""How a model decides questions: what it is asked, and the probabilities that it gives to their labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from headrace_schemas import HeadraceError, Message
from headrace_schemas.decision import Choice, Predicate, ScaleQuestion
from headrace_workers.features.generation.generator import Generator, NoProbabilities, RemoteSource, never


def _free() -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """Questions about one input. The fields behind them are as of `Request`."""

    messages: tuple[Message, ...]
    questions: tuple[Predicate | Choice | ScaleQuestion, ...]
    tenant: str | None = None
    given_up: Callable[[], bool] = field(default=never, compare=False)
    at_most: float | None = None
    patient: bool = True
    barred: Callable[[], float] = field(default=_free, compare=False)


@dataclass(frozen=True, slots=True)
class QuestionScores:
    """The probabilities of a question's labels in their order, which sum to 1: of a predicate those of yes and no.

    `mass` is what the labels had together before that. They are `stated` if the model wrote them in words.
    """

    probabilities: tuple[float, ...]
    mass: float | None
    stated: bool = False
    calibrated: bool = False


@dataclass(frozen=True, slots=True)
class Decided:
    """The scores of each question, None for one that the model does not answer, and the tokens read and written."""

    answers: tuple[QuestionScores | None, ...]
    prompt_tokens: int
    completion_tokens: int
    remote: RemoteSource | None = None


@runtime_checkable
class Decides(Protocol):
    """A generator that decides by itself."""

    def decide(self, requests: Sequence[DecisionRequest]) -> list[Decided | HeadraceError]:
        """Decide all; the i-th item belongs to the i-th request. An error value concerns that request alone."""


def decide_all(generator: Generator, requests: Sequence[DecisionRequest]) -> list[Decided | HeadraceError]:
    """Let a model decide all requests; the i-th item belongs to the i-th request."""
    if isinstance(generator, Decides):
        return generator.decide(requests)
    raise NoProbabilities(f"{generator.alias} gives no probabilities")
