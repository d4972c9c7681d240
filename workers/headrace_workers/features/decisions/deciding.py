"""Placeholder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from headrace_schemas import HeadraceError, Message
from headrace_schemas.decision import Choice, Predicate, ScaleQuestion
from headrace_workers.features.generation.generator import Generator, RemoteSource, never


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    messages: tuple[Message, ...]
    questions: tuple[Predicate | Choice | ScaleQuestion, ...]
    tenant: str | None = None
    given_up: Callable[[], bool] = field(default=never, compare=False)
    at_most: float | None = None
    patient: bool = True


@dataclass(frozen=True, slots=True)
class QuestionScores:
    probabilities: tuple[float, ...]
    mass: float | None
    stated: bool = False
    calibrated: bool = False


@dataclass(frozen=True, slots=True)
class Decided:
    answers: tuple[QuestionScores | None, ...]
    prompt_tokens: int
    completion_tokens: int
    remote: RemoteSource | None = None


@runtime_checkable
class Decides(Protocol):
    def decide(self, requests: Sequence[DecisionRequest]) -> list[Decided | HeadraceError]: ...


def decide_all(generator: Generator, requests: Sequence[DecisionRequest]) -> list[Decided | HeadraceError]:
    assert isinstance(generator, Decides)
    return generator.decide(requests)
