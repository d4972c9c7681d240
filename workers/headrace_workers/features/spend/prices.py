"""The prices of a deployment's models: its own in models.toml, else those of providers, else that of the machine."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from headrace_workers.core.ledger.charges import UNKNOWN, Price
from headrace_workers.features.spend.settings import SpendSettings
from headrace_workers.models.catalogue import CataloguePrice
from headrace_workers.models.registry import ModelCard, Registry

_SNAPSHOT: Final = "public_prices.json"
_MICRO: Final = 1_000_000
_MOST_KEPT: Final = 10_000
# Seconds of the machine that one call of an own model is charged for at most, and that a budget reserves for it.
_MACHINE_SECONDS: Final = 60


def money(amount: int) -> str:
    """Return an amount in micro-units as people read it: `1,234.56`, and more digits where there are more."""
    text = f"{amount / _MICRO:,.6f}"
    whole, _, parts = text.partition(".")
    return f"{whole}.{parts.rstrip('0').ljust(2, '0')}"


class _PublicPrice(NamedTuple):
    """An entry of the snapshot: input, cached input and output, and the same for prompts of `start` tokens and more."""

    match: re.Pattern[str]
    price: tuple[int, int, int]
    start: int | None = None
    long: tuple[int, int, int] | None = None


class Snapshot(NamedTuple):
    """The public prices that ship with this version, by provider, and where and when they come from."""

    source: str
    date: str
    currency: str
    providers: Mapping[str, Sequence[_PublicPrice]]

    def price(self, provider: str, model: str, context_length: int) -> Price | None:
        """Return the price of a provider's model; None where it is not known. With a context in which long prompts fit
        that cost more, the price is that of long prompts: nothing costs more than it says.
        """
        name = model.lower()
        found = next((row for row in self.providers.get(provider, ()) if row.match.fullmatch(name)), None)
        if found is None:
            return None
        long = found.long is not None and found.start is not None and context_length > found.start
        figures = found.long if long and found.long else found.price
        return Price(self.currency, *figures)


@cache
def snapshot() -> Snapshot:
    """Return the public prices that ship with this version."""
    told = json.loads(files(__package__).joinpath(_SNAPSHOT).read_text(encoding="utf-8"))
    providers = {
        provider: tuple(
            _PublicPrice(
                re.compile(entry["match"]),
                tuple(entry["price"]),
                entry.get("start"),
                tuple(entry["long"]) if "long" in entry else None,
            )
            for entry in entries
        )
        for provider, entries in told["providers"].items()
    }
    return Snapshot(told["source"], told["date"], told["currency"], providers)


class DeploymentPrices:
    """The prices of the models of a home. Thread-safe. A change of models.toml is followed."""

    def __init__(self, registry: Registry, settings: SpendSettings) -> None:
        self._registry = registry
        self._settings = settings
        self._public: dict[tuple[str, str, int], Price | None] = {}

    def price(self, model: str) -> Price | None:
        """Return the price of a model; None for an own model without one, and `UNKNOWN` for another."""
        own = self._registry.price(model)
        if own is not None and own.is_of_calls:
            return self._set(own)
        card = self._registry.find(model)
        if card is None:
            return UNKNOWN
        if card.remote is None or card.remote.is_own:
            return self._of_machine()
        return self._of_provider(card) or UNKNOWN

    def training(self, model: str) -> Price | None:
        """Return the price of training a model, as that of input; None where nobody set one."""
        own = self._registry.price(model)
        return None if own is None or own.training is None else Price(self._settings.currency, micro(own.training))

    def _set(self, entry: CataloguePrice) -> Price:
        cached = entry.input if entry.cached is None else entry.cached
        longest = _MACHINE_SECONDS if entry.longest is None else entry.longest
        return Price(
            self._settings.currency,
            micro(entry.input),
            micro(cached),
            micro(entry.output),
            micro(entry.hour),
            int(longest * 1000) if entry.hour else 0,
        )

    def _of_machine(self) -> Price | None:
        hour = self._settings.machine_price
        if hour is None:
            return None
        return Price(self._settings.currency, hour=micro(hour), longest_ms=int(_MACHINE_SECONDS * 1000))

    def _of_provider(self, card: ModelCard) -> Price | None:
        public = snapshot()
        if card.remote is None or public.currency != self._settings.currency:
            return None
        asked = card.remote.provider, card.remote.model, card.context_length
        if asked not in self._public:
            if len(self._public) >= _MOST_KEPT:
                self._public.clear()
            self._public[asked] = public.price(*asked)
        return self._public[asked]


def micro(amount: float) -> int:
    """Return an amount of a currency in micro-units."""
    return round(amount * _MICRO)
