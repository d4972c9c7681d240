"""What steps may ask for. Adapters live in rooms of their own; a step never sees a library."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from headrace_schemas import Category, Finding, HeadraceError, Message, ModerationVerdict, Sampling
from headrace_schemas.events import FinishReason
from headrace_schemas.moderation import Action

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def never() -> bool:
    """What is wanted to its end."""
    return False


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to be answered. With its `tenant`, what that tenant's prompts begin with may be computed once.

    Once `given_up` says so, which it is asked for each token, nobody wants the answer any more: it may be GivenUp.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    tenant: str | None = None
    given_up: Callable[[], bool] = field(default=never, compare=False)


class GivenUp(HeadraceError):
    """An answer that nobody wanted any more before it was whole."""

    category = Category.TRANSIENT  # should it be wanted after all

    def __init__(self) -> None:
        super().__init__("its job was let go of while it was answered")


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. `prompt_tokens` counts the rendered chat template."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int


class Generator(Protocol):
    """A loaded model. Thread-safe; built once a process, after any fork."""

    @property
    def alias(self) -> str:
        """The name that jobs ask for it by."""

    @property
    def quantization(self) -> str:
        """The number format that it computes in: `int8`, `float32`, …"""

    @property
    def context_length(self) -> int:
        """Prompt and answer together, in tokens."""

    @property
    def parallel(self) -> int:
        """How many calls it computes side by side; an urgent one may be one more."""

    @property
    def urgent(self) -> "Generator":
        """The same model for work that must not wait until what runs already has ended."""

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        """Answer all; the i-th item belongs to the i-th request. An error value concerns that request alone."""

    def choice_probabilities(
        self, prompts: Sequence[tuple[Message, ...]], choices: Sequence[str]
    ) -> list[tuple[float, ...] | HeadraceError]:
        """For each prompt, the probability that the answer's first token is that of each choice.

        Softmax over the whole vocabulary, so that the sum over the choices is their mass. A choice counts with and
        without a leading space, and in the cases given; ValueError when two choices share their first token, or when
        the engine gives no probabilities.
        """


class Embedder(Protocol):
    """Turns texts into vectors whose inner product says how alike they are. Thread-safe; built after any fork."""

    @property
    def id(self) -> str:
        """Name, number format and the first 12 digits of its weights' SHA-256: `all-minilm-l6-v2/int8/ab12cd34ef56`.

        Vectors of two ids must never meet.
        """

    @property
    def dimensions(self) -> int:
        """The length of each vector."""

    @property
    def max_tokens(self) -> int:
        """What it reads of a text, in tokens with those that it adds; the rest changes nothing."""

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """A row of length 1 for each text, in their order: shape (texts, dimensions), also for no texts.

        An empty text has a vector, too; a long one is cut at `max_tokens`.
        """


@runtime_checkable
class CountsTokens(Protocol):
    """An embedder that knows how many tokens a text has for it; some do not."""

    def count_tokens(self, text: str) -> int:
        """The tokens of the whole text, without those that it adds."""

    @property
    def added_tokens(self) -> int:
        """How many it adds to each text."""


class CountingEmbedder(Embedder, CountsTokens, Protocol):
    """An embedder that knows whether it reads a text whole."""


class Reranker(Protocol):
    """Reads a question and a passage together, and says how well the one answers the other. Thread-safe; built after
    any fork."""

    @property
    def name(self) -> str:
        """What it is called in logs."""

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """One figure for each passage, in their order: a higher one is better. Only those of one call are compared."""


class Source(Protocol):
    """Who finds something in a text."""

    @property
    def name(self) -> str:
        """The detector's name in findings."""

    @property
    def version(self) -> str:
        """What it rests on: another version may find other things."""

    @property
    def categories(self) -> frozenset[str]:
        """The categories that it may report."""


class Detector(Source, Protocol):
    """Finds spans of one kind of trouble. Raises when it cannot say; the output is then held."""

    @property
    def reads_words(self) -> bool:
        """Whether it looks for words, and so is shown texts in which digits and signs became letters."""

    def detect(self, texts: Sequence[str]) -> list[list["Detection"]]:
        """The detections of each text; the i-th list belongs to the i-th text."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A span (in characters) with its category and the detector's confidence in [0, 1]."""

    category: str
    score: float
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Told:
    """What a model was told by its operator before it wrote a text: the system prompt, and marks that may be in it."""

    system: str
    marks: tuple[str, ...] = ()


class Moderator(Protocol):
    """Detectors and a policy together."""

    def moderate(
        self,
        texts: Sequence[str],
        tenants: Sequence[str] | None = None,
        told: Sequence[Told | None] | None = None,
    ) -> list["Moderation | HeadraceError"]:
        """A verdict for each text, by its tenant's policy; without tenants, by that of all who have none of their own.
        `told` is what each must not repeat, of those that a model wrote.

        An error value means that this text must be held.
        """


@dataclass(frozen=True, slots=True)
class Moderation:
    """What may be shown: `text` is redacted, or None when blocked. `again`: its model is to be asked for another."""

    text: str | None
    verdict: ModerationVerdict
    again: bool = False

    @property
    def action(self) -> Action:
        """What was decided."""
        return self.verdict.action

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What it rests on."""
        return self.verdict.findings


class Clock(Protocol):
    """Time, handed in."""

    def now(self) -> datetime:
        """The wall clock, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never jump."""
