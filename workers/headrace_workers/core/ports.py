"""Ports of steps: the interfaces of what they call. Adapters live in modules of their own; a step never sees a
library.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from headrace_schemas import Category, Finding, HeadraceError, Message, ModerationVerdict, Sampling, Usage
from headrace_schemas.errors import EndCode
from headrace_schemas.events import FinishReason
from headrace_schemas.moderation import Action
from headrace_schemas.output_format import OutputFormat
from headrace_schemas.tool import NO_TOOLS, Offer, Tool, ToolCall

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def never() -> bool:
    """Return False: the call is wanted to its end."""
    return False


def _free() -> float:
    """Return 0: any model may be asked."""
    return 0.0


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt to be answered. With its `tenant`, the beginning that the tenant's prompts share may be computed once.

    Once `given_up` says so, which it is asked for each token, nobody wants the answer any more: it may be GivenUp. A
    call to another machine ends after `at_most` seconds. One that is `patient` waits for a provider that is busy;
    another model answers the others. A call that had to wait for its turn begins only if `barred` then returns 0: it
    returns for how many seconds nobody is to ask the model. The answer has the format of `output`, or calls some of the
    tools of `offer`; an engine that cannot make sure of it answers freely, and what it says is checked. `tools` are all
    that its job has: earlier turns may call one that is not offered now.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    tenant: str | None = None
    given_up: Callable[[], bool] = field(default=never, compare=False)
    at_most: float | None = None
    patient: bool = True
    barred: Callable[[], float] = field(default=_free, compare=False)
    output: OutputFormat | None = None
    tools: tuple[Tool, ...] = ()
    offer: Offer = NO_TOOLS


class GivenUp(HeadraceError):
    """An answer that nobody wanted any more before it was whole."""

    category = Category.TRANSIENT  # should it be wanted after all
    billed = True

    def __init__(self) -> None:
        super().__init__("its job was let go of while it was answered")


class ProviderBusy(HeadraceError):
    """A provider that takes no more calls for now. `after` is in how many seconds to ask it again; `is_sure` tells
    whether it takes calls then, or that is a guess.
    """

    category = Category.REROUTABLE

    def __init__(self, message: str, *, after: float | None = None, is_sure: bool | None = None) -> None:
        super().__init__(message)
        self.after = after
        self.is_sure = after is not None if is_sure is None else is_sure


class Unseen:
    """The mark of an error of a call that was not made: nobody saw its text."""


class NotAsked(Unseen, ProviderBusy):
    """A call that was not made, since its provider is to be left alone for now. The model itself did not fail."""


class ProviderRefuses(HeadraceError):
    """An answer that the provider's policy withheld. Another model is not asked in its place: that would evade it."""

    category = Category.PERMANENT
    end_code = EndCode.CONTENT_POLICY
    billed = True


OWN: Final = "own"  # the provider of models on machines of the deployment: texts that they read stay inside


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSource:
    """The machine of a provider that answered, the model as the provider names it, and its version where it says so.

    Without `has_usage` the provider did not say how many tokens it read and wrote, or said more than the call may have:
    then that is `disbelieved`.
    """

    provider: str
    model: str
    fingerprint: str | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    has_usage: bool = True
    disbelieved: int | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer. `prompt_tokens` counts the rendered chat template. `remote` is of a model on another machine."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    remote: RemoteSource | None = None
    tool_calls: tuple[ToolCall, ...] = ()


class NoProbabilities(ValueError):
    """A generator that gives no probabilities of tokens: it is asked for an answer in words instead."""


class Generator(Protocol):
    """A loaded model. Thread-safe; built once a process, after any fork."""

    @property
    def alias(self) -> str:
        """Return the name that jobs ask for it by."""

    @property
    def quantization(self) -> str:
        """Return the number format that it computes in: `int8`, `float32`, …"""

    @property
    def context_length(self) -> int:
        """Return how many tokens prompt and answer may have together."""

    @property
    def parallel(self) -> int:
        """Return how many calls it computes side by side; an urgent one may be one more."""

    @property
    def urgent(self) -> "Generator":
        """Return the same model for urgent work, which does not wait until running calls have ended."""

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        """Answer all; the i-th item belongs to the i-th request. An error value concerns that request alone."""

    def choice_probabilities(
        self, prompts: Sequence[tuple[Message, ...]], choices: Sequence[str]
    ) -> list[tuple[float, ...] | HeadraceError]:
        """Return for each prompt the probability that the answer's first token is that of each choice.

        Softmax over the whole vocabulary, so that the sum over the choices is their mass. A choice counts with and
        without a leading space, and in the cases given; ValueError when two choices share their first token,
        NoProbabilities when the engine gives none.
        """


@runtime_checkable
class HasProvider(Protocol):
    """A generator that may be on another machine."""

    @property
    def provider(self) -> str | None:
        """Return whose machine it is; None for the machine that asks it."""


def provider_of(generator: Generator) -> str | None:
    """Return whose machine a generator runs on; None for a machine of the deployment."""
    return generator.provider if isinstance(generator, HasProvider) and generator.provider != OWN else None


class Embedder(Protocol):
    """Model that turns texts into vectors whose inner product is their similarity. Thread-safe; built after any
    fork.
    """

    @property
    def id(self) -> str:
        """Return name, number format and the first 12 digits of its weights' SHA-256:
        `all-minilm-l6-v2/int8/ab12cd34ef56`.

        Vectors of two ids must never meet.
        """

    @property
    def dimensions(self) -> int:
        """Return the length of each vector."""

    @property
    def max_tokens(self) -> int:
        """Return how many tokens of a text it reads, with the tokens that it adds; the rest of the text changes
        nothing."""

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Return a row of length 1 for each text, in their order: shape (texts, dimensions), also for no texts.

        An empty text has a vector, too; a long one is cut at `max_tokens`.
        """


@runtime_checkable
class CountsTokens(Protocol):
    """An embedder that knows how many tokens a text has for it; some do not."""

    def count_tokens(self, text: str) -> int:
        """Return the tokens of the whole text, without the tokens that it adds."""

    @property
    def added_tokens(self) -> int:
        """Return how many it adds to each text."""


class CountingEmbedder(Embedder, CountsTokens, Protocol):
    """An embedder that knows whether it reads a text whole."""


class Reranker(Protocol):
    """Model that reads a question and a passage together, and scores how well the passage answers. Thread-safe; built
    after any fork.
    """

    @property
    def name(self) -> str:
        """Return its name in logs."""

    def scores(self, question: str, passages: Sequence[str]) -> list[float]:
        """Return a score for each passage, in their order: a higher one is better. Compare only the scores of one
        call.
        """


class Relation(StrEnum):
    """What a verifier is asked about two texts."""

    SAME_QUESTION = "same question"  # a right answer to the first question is a right answer to the second
    SAME_ANSWER = "same answer"  # both texts say the same in answer to one question
    SUPPORTED = "supported"  # the first text says what the second claims


@dataclass(frozen=True, slots=True)
class TextPair:
    """Two texts and what is asked about them. `about` is the question that both answer, for `SAME_ANSWER`. A provider
    sees the texts of no tenant that does not allow it, and no texts without a `tenant`.
    """

    relation: Relation
    first: str
    second: str
    tenant: str | None = None
    about: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verifier's answer about a pair: the probability of yes, and how much of the probability fell on yes and no.

    `mass` is None where the model gives no probabilities: `value` is then 1 for a written yes, and 0 for a no. `ms` is
    how long the call took that this pair was part of. `usage` are the tokens of the pair, of a model that says so.
    """

    value: float
    mass: float | None
    ms: float
    usage: Usage | None = None

    @property
    def holds(self) -> bool:
        """Return True if yes is more probable than no."""
        return self.value > 0.5


class Verifier(Protocol):
    """A model that says whether a relation holds between two texts. Thread-safe; built after any fork."""

    @property
    def name(self) -> str:
        """Return its name in receipts and logs."""

    @property
    def provider(self) -> str | None:
        """Return whose machine reads the texts; None for a machine of the deployment."""

    def verify(self, pairs: Sequence[TextPair]) -> list[Verdict | HeadraceError]:
        """Return a verdict for each pair, or why there is none; the i-th item belongs to the i-th pair.

        Raise nothing: a verifier that fails has said neither yes nor no.
        """


class Source(Protocol):
    """Origin of a finding in a text."""

    @property
    def name(self) -> str:
        """Return the detector's name in findings."""

    @property
    def version(self) -> str:
        """Return the version of its data: another version may find other things."""

    @property
    def categories(self) -> frozenset[str]:
        """Return the categories that it may report."""


class Detector(Source, Protocol):
    """Detector of spans of one hazard. It raises when it cannot say; the output is then held."""

    @property
    def reads_words(self) -> bool:
        """Return True if it looks for words, and so is shown texts in which digits and signs became letters."""

    def detect(self, texts: Sequence[str]) -> list[list["Detection"]]:
        """Return the detections of each text; the i-th list belongs to the i-th text."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A span (in characters) with its category and the detector's confidence in [0, 1]."""

    category: str
    score: float
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Instructions:
    """Instructions that an operator gave a model before it wrote a text: the system prompt, and marks that may be in
    it.
    """

    system: str
    marks: tuple[str, ...] = ()


class Moderator(Protocol):
    """Detectors and a policy together."""

    def moderate(
        self,
        texts: Sequence[str],
        tenants: Sequence[str] | None = None,
        instructions: Sequence[Instructions | None] | None = None,
    ) -> list["Moderation | HeadraceError"]:
        """Return a verdict for each text, by its tenant's policy; without tenants, by the policy of tenants that have
        none of their own. `instructions` are texts that a model's output must not repeat.

        An error value means that this text must be held.
        """


@dataclass(frozen=True, slots=True)
class Moderation:
    """Decision about a text: `text` is redacted, or None when blocked. `again`: its model is to be asked for
    another.
    """

    text: str | None
    verdict: ModerationVerdict
    again: bool = False

    @property
    def action(self) -> Action:
        """Return the decision."""
        return self.verdict.action

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Return the findings that the decision rests on."""
        return self.verdict.findings


class Clock(Protocol):
    """Time, handed in."""

    def now(self) -> datetime:
        """Return the wall clock, in UTC."""

    def monotonic(self) -> float:
        """Return seconds that never jump."""
