"""Token counts of prompts before they run: by the model's own tokenizer, without its weights.

The bridge asks for every job, so that groups are of like length and a prompt that cannot fit is refused at the door;
and whoever puts passages into prompts does, so that they fit. A tokenizer is loaded by the first job that needs it, and
each costs its model's vocabulary in memory.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headrace_schemas import HeadraceError, Message
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.tool import NO_TOOLS, Offer
from headrace_workers.core.log import Action, log
from headrace_workers.models.engines.engine import engines
from headrace_workers.models.registry import ModelCard, Registry, may_name

if TYPE_CHECKING:
    from headrace_workers.models.engines.prompts import Prompts


Shown = Callable[[str, Sequence[Message]], Sequence[Message]]


def as_it_is(_tenant: str, messages: Sequence[Message]) -> Sequence[Message]:
    """Return the messages unchanged."""
    return messages


class CountingModels:
    """The models of a home, and what prompts for them cost. Thread-safe."""

    def __init__(self, home: Path, registry: Registry, shown: Shown = as_it_is, *, longest_mark: int = 0) -> None:
        """`shown` says what of a tenant's conversation its model is shown: at most `longest_mark` bytes more."""
        self.longest_mark = longest_mark
        self._home = home
        self._shown = shown
        self._registry = registry
        self._loaded: dict[str, tuple[ModelCard, Prompts | None]] = {}
        self._lock = threading.Lock()

    def knows(self, alias: str, tenant: str) -> bool:
        """Return True where a model that this tenant's jobs may name has this alias."""
        card = self._registry.find(alias)
        return card is not None and may_name(tenant, card)

    def aliases(self, tenant: str) -> list[str]:
        """Return the known aliases of a tenant's models in order."""
        return [alias for alias in self._registry.aliases() if self.knows(alias, tenant)]

    def chain(self, name: str) -> tuple[str, ...] | None:
        """Return the models of the catalogue's chain with this name; None where no chain has it."""
        return self._registry.chain(name)

    def provider(self, alias: str) -> str | None:
        """Return the provider whose machine runs the model; None for a machine of the deployment."""
        return self._registry.provider(alias)

    def prompt_tokens(
        self, alias: str, messages: Sequence[Message], tenant: str, offer: Offer = NO_TOOLS
    ) -> int | None:
        """Return the tokens of this tenant's prompt as the model will read it, with the tools that it is offered.

        Return None where only a guess is possible: for an engine that counts none, or a tokenizer that cannot be
        loaded. Raise PromptTooLong or InvalidTemplate as the model's worker would.
        """
        prompts = self._prompts(alias)
        if prompts is None:
            return None
        try:
            counted = prompts.count(self._shown(tenant, messages), offer)
        except Exception as error:  # of the library; its worker will meet it, too, and the job ends there
            reason = f"a prompt was sized by a guess: counting failed with {type(error).__name__}"
            log("models", logging.WARNING, Action.STEP_FAILED, reason, model=alias)
            return None
        if isinstance(counted, HeadraceError):
            raise counted
        return counted

    def context_length(self, alias: str) -> int | None:
        """Return the tokens of prompt and answer together; None where the model is not here."""
        return self._registry.get(alias).context_length if alias in self._registry else None

    def lacks(self, alias: str) -> frozenset[str]:
        """Return the sampling parameters that neither its engine nor the model has."""
        if alias not in self._registry:
            return frozenset()
        card = self._registry.get(alias)
        return engines("generator")[card.engine].lacks | (card.remote.lacks if card.remote else frozenset())

    def knows_tools(self, alias: str) -> bool:
        """Return True if the model can be asked to choose whether to call a tool; False where it is not here."""
        return self._registry.knows_tools(alias)

    def text_tokens(self, alias: str, text: str) -> int | None:
        """Return the tokens of a text alone; None where only a guess is possible."""
        prompts = self._prompts(alias) if alias in self._registry else None
        return None if prompts is None else len(prompts.text_ids(text))

    def _prompts(self, alias: str) -> "Prompts | None":
        card = self._registry.get(alias)
        with self._lock:
            loaded = self._loaded.get(alias)
            if loaded is None or loaded[0] != card:  # another model has taken its place
                loaded = self._loaded[alias] = card, self._load(card)
            return loaded[1]

    def _load(self, card: ModelCard) -> "Prompts | None":
        counter = engines("generator")[card.engine].counter
        if counter is None:
            return None
        try:
            prompts: Prompts = counter(card, self._registry.folder(card.alias))
            return prompts
        except (ConfigurationError, ImportError) as error:
            log("models", logging.WARNING, Action.MODEL_LEFT_OUT, f"its prompts are sized by a guess: {error}",
                model=card.alias)  # fmt: skip
            return None
