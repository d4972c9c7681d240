"""A model on another machine, as the pipeline sees it."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Self

from headrace_schemas import HeadraceError, Message
from headrace_workers.core.pipeline.grouping import pieces
from headrace_workers.core.ports import Completion, NoProbabilities, NotAsked, ProviderBusy, Request
from headrace_workers.features.generation.engines.engine import LoadOptions
from headrace_workers.features.generation.engines.remote.calls import CallLoop, Provider, answer
from headrace_workers.features.generation.engines.remote.rates import CallRates, key_of
from headrace_workers.features.generation.models.catalogue import RemoteModel
from headrace_workers.features.generation.models.registry import ModelCard
from headrace_workers.features.generation.most_tokens import tokens_at_most
from headrace_workers.features.generation.structured.tools import as_json, described
from headrace_workers.runtime.wire.redis_client import HINT_SECONDS, redis_client
from headrace_workers.runtime.wire.redis_names import RedisNames

_PATIENCE: Final = 1.0  # seconds that a call waits here for its turn; then its job waits in the ledger


class RemoteGenerator:
    """A generator that asks a provider. Thread-safe: all calls share one client and one event loop."""

    def __init__(
        self, card: ModelCard, provider: Provider, rates: CallRates, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        assert card.remote is not None  # noqa: S101 - its engine is remote
        self._card = card
        self._limits: RemoteModel = card.remote
        self._provider = provider
        self._rates = rates
        self._sleep = sleep
        self._calls = CallLoop(f"calls of {card.alias}")

    @classmethod
    def load(cls, card: ModelCard, provider: Provider, options: LoadOptions) -> Self:
        """Return the generator of a card. Raise ConfigurationError if its key is missing: now, not at the first job."""
        assert card.remote is not None  # noqa: S101 - its engine is remote
        if card.remote.api_key:
            card.remote.api_key.read()
        client = redis_client(options.redis, HINT_SECONDS) if options.redis else None
        name = RedisNames(options.prefix).calls(key_of(card.remote))
        return cls(card, provider, CallRates(card.remote, client, name))

    @property
    def alias(self) -> str:
        """Return the name that jobs ask for it by."""
        return self._card.alias

    @property
    def provider(self) -> str:
        """Return whose machine answers."""
        return self._limits.provider

    @property
    def quantization(self) -> str:
        """Return `remote`: its provider does not say."""
        return self._card.quantization

    @property
    def context_length(self) -> int:
        """Return how many tokens prompt and answer may have together."""
        return self._card.context_length

    @property
    def parallel(self) -> int:
        """Return 1: its calls wait in threads of their own, and take no slot."""
        return 1

    @property
    def urgent(self) -> "RemoteGenerator":
        """Return the same: no call waits for another."""
        return self

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        """Answer all side by side; the i-th item belongs to the i-th request. ProviderBusy says when to come back."""
        begun = [self._begin(request) for request in requests]
        return [each() for each in begun]

    def choice_probabilities(
        self, prompts: Sequence[tuple[Message, ...]], choices: Sequence[str]
    ) -> list[tuple[float, ...] | HeadraceError]:
        """Raise NoProbabilities: providers do not give probabilities of all tokens."""
        raise NoProbabilities(f"{self.alias} answers on another machine, and gives no probabilities of tokens")

    def _begin(self, request: Request) -> Callable[[], Completion | HeadraceError]:
        """Begin a call if the rates of its key allow it, and return what waits for its answer."""
        tokens = sum(map(pieces, _texts(request))) + request.sampling.max_tokens
        if (busy := self._take(tokens, request)) is not None:
            return lambda: busy
        tools, longest = request.offer.tools, request.sampling.max_tokens
        most = tokens_at_most(request.messages, request.output, tools, longest)
        call = self._calls.begin(answer(self._provider, self._limits, request, self.alias, most))
        return lambda: self._settled(call.result(), tokens, patient=request.patient)

    def _take(self, tokens: int, request: Request) -> NotAsked | None:
        """Take the right to make a call; else return when to come back.

        A worker that put jobs back at once would look through its whole queue while its key is slowed down. A job that
        another model may answer does not wait for a time that nobody named.
        """
        wait = self._rates.take(tokens)
        if wait <= 0:
            return None
        if not request.patient and self._rates.is_guess():
            return NotAsked(f"{self.alias}: its provider takes no calls for now", after=wait, is_sure=False)
        self._sleep(min(wait, _PATIENCE))
        if (barred := request.barred()) > 0:
            return NotAsked(f"{self.alias} was not asked: its breaker opened", after=barred, is_sure=False)
        wait = self._rates.take(tokens, in_line=True)
        return NotAsked(f"{self.alias} is at the limit of its provider's rate", after=wait) if wait > 0 else None

    def _settled(
        self, outcome: Completion | HeadraceError, tokens: int, *, patient: bool
    ) -> Completion | HeadraceError:
        """Return the outcome of a call, after its rates were corrected by what the provider said."""
        if isinstance(outcome, Completion):
            if outcome.remote is None or outcome.remote.has_usage:
                self._rates.give_back(tokens - outcome.prompt_tokens - outcome.completion_tokens)
        elif isinstance(outcome, ProviderBusy):
            self._rates.give_back(tokens)
            if outcome.after is None and not patient:  # another model answers; the breaker counts this one's failures
                return outcome
            left = self._rates.slow_down(outcome.after)
            after = self._rates.take(0, in_line=True) or left
            return ProviderBusy(str(outcome), after=after, is_sure=outcome.is_sure)
        return outcome


def _texts(request: Request) -> Iterator[str]:
    """Yield what the provider reads of a request."""
    for message in request.messages:
        yield message.content
        yield from (call.arguments for call in message.tool_calls)
    yield from (as_json(described(tool)) for tool in request.offer.tools)
