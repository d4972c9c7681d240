"""The interface of models that answer: requests, answers, and the ways in which a call fails. Engines implement
`Generator` in modules of their own; a step never sees a library.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from headrace_schemas import Category, HeadraceError, Message, Sampling
from headrace_schemas.events import FinishReason
from headrace_schemas.output_format import OutputFormat
from headrace_schemas.tool import NO_TOOLS, Offer, Tool, ToolCall
from headrace_workers.core.ledger.outcome import ProviderBusy
from headrace_workers.core.pipeline.chain import OWN


def never() -> bool:
    """Return False: the call is wanted to its end."""
    return False


def unbarred() -> float:
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
    that its job has: earlier turns may call one that is not offered now. `logprobs` asks a provider how likely its
    tokens were.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    tenant: str | None = None
    given_up: Callable[[], bool] = field(default=never, compare=False)
    at_most: float | None = None
    patient: bool = True
    barred: Callable[[], float] = field(default=unbarred, compare=False)
    output: OutputFormat | None = None
    tools: tuple[Tool, ...] = ()
    offer: Offer = NO_TOOLS
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """A prompt, and the labels of which one may be its answer, or what it begins with where that need not be `whole`.
    `tenant`, `given_up` and `at_most` are `Request`'s.

    The common beginning of consecutive requests, such as a text that all of them ask about, is computed once.
    """

    messages: tuple[Message, ...]
    labels: tuple[str, ...]
    tenant: str | None = None
    whole: bool = True
    given_up: Callable[[], bool] = field(default=never, compare=False)
    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class LabelScores:
    """The probability of each label, in the request's order: their sum is their mass. `prompt_tokens` counts the
    tokens that were read for this request, and not those that were read for one before it; `label_tokens` those of the
    labels that were read.
    """

    masses: tuple[float, ...]
    prompt_tokens: int
    label_tokens: int


class GivenUp(HeadraceError):
    """An answer that nobody wanted any more before it was whole."""

    category = Category.TRANSIENT  # should it be wanted after all
    billed = True

    def __init__(self) -> None:
        super().__init__("its job was let go of while it was answered")


class Unseen:
    """The mark of an error of a call that was not made: nobody saw its text."""


class Abstained(HeadraceError):
    """A model that is not sure enough of an answer to give it, or does not answer such a question. It did not fail: the
    next model of the job's chain answers. `prompt_tokens` are those that it read.
    """

    category = Category.REROUTABLE

    def __init__(self, message: str, *, prompt_tokens: int = 1) -> None:
        super().__init__(message)
        self.prompt_tokens = prompt_tokens


class NotAsked(Unseen, ProviderBusy):
    """A call that was not made, since its provider is to be left alone for now. The model itself did not fail."""


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


class TokenChoices(NamedTuple):
    """A token that was written, and the probabilities of the likeliest tokens in its place."""

    text: str
    likely: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer. `prompt_tokens` counts the rendered chat template. `remote` is of a model on another machine, which
    may tell its `tokens`, too.
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    remote: RemoteSource | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tokens: tuple[TokenChoices, ...] = ()


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

    def label_probabilities(self, requests: Sequence[LabelRequest]) -> list[LabelScores | HeadraceError]:
        """Return for each request the probability of each of its labels; the i-th item belongs to the i-th request.

        A label's probability is that of all its tokens and, where it is to be the `whole` answer, of the end of the
        turn, over the whole vocabulary. A label counts as it is spelled and after a space. ValueError when two labels
        of a request have the same tokens, NoProbabilities when the engine gives none.
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


class WrappedGenerator:
    """A generator with the name and the sizes of its `inner` one. As thread-safe as that."""

    def __init__(self, inner: Generator) -> None:
        self._inner = inner

    @property
    def alias(self) -> str:
        """Return the name that jobs ask for it by."""
        return self._inner.alias

    @property
    def quantization(self) -> str:
        """Return the number format that it computes in."""
        return self._inner.quantization

    @property
    def context_length(self) -> int:
        """Return how many tokens prompt and answer may have together."""
        return self._inner.context_length

    @property
    def parallel(self) -> int:
        """Return how many calls it computes side by side."""
        return self._inner.parallel
