"""A model on another machine, as the pipeline sees it."""

from collections.abc import Sequence

from headrace_schemas import HeadraceError, Message
from headrace_workers.core.ports import Completion, Request
from headrace_workers.features.generation.engines.remote.calls import CallLoop, Provider, answer
from headrace_workers.features.generation.models.catalogue import RemoteModel
from headrace_workers.features.generation.models.registry import ModelCard


class RemoteGenerator:
    """A generator that asks a provider. Thread-safe: all calls share one client and one event loop."""

    def __init__(self, card: ModelCard, provider: Provider) -> None:
        assert card.remote is not None  # noqa: S101 - its engine is remote
        self._card = card
        self._limits: RemoteModel = card.remote
        self._provider = provider
        self._calls = CallLoop(f"calls of {card.alias}")

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
        """Answer all side by side; the i-th item belongs to the i-th request."""
        begun = [self._calls.begin(answer(self._provider, self._limits, request, self.alias)) for request in requests]
        return [each.result() for each in begun]

    def choice_probabilities(
        self, prompts: Sequence[tuple[Message, ...]], choices: Sequence[str]
    ) -> list[tuple[float, ...] | HeadraceError]:
        """Raise ValueError: providers do not give probabilities of all tokens."""
        raise ValueError(f"{self.alias} answers on another machine, and gives no probabilities of tokens")
