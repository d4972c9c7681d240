"""From a name to a loaded verifier."""

from typing import Final

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.ledger.charges import Prices
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ports import Verifier, provider_of
from headrace_workers.features.generation.parts import load
from headrace_workers.features.generation.verifiers.model_verifier import ModelVerifier
from headrace_workers.features.providers.boundary import bounded
from headrace_workers.runtime.settings import Settings

_SENTENCE_TRANSFORMERS: Final = "sentence-transformers:"


def load_verifier_here(settings: Settings, name: str) -> Verifier:
    """Load a verifier for texts of this machine's own user, which name no tenant; no time is too long for it.

    ConfigurationError when it cannot be loaded, or is a provider's: no tenant has allowed that.
    """
    if name.startswith(_SENTENCE_TRANSFORMERS):
        from headrace_workers.features.knowledge.rerankers.cross_encoder_verifier import CrossEncoderVerifier

        return CrossEncoderVerifier.load(name.removeprefix(_SENTENCE_TRANSFORMERS))
    generator = load(settings, name)
    if (provider := provider_of(generator)) is not None:
        raise ConfigurationError(f"{name} runs at the provider {provider}, which may not see texts without a tenant")
    return ModelVerifier(generator)


def load_verifier(settings: Settings, ledger: Ledger, prices: Prices, name: str, most_seconds: float) -> Verifier:
    """Load the model behind `sentence-transformers:`, or the model with this alias. A provider sees only texts of
    tenants that allow it.

    ConfigurationError when it cannot be loaded, or its calls cost money: no job reserves money for them.
    """
    if name.startswith(_SENTENCE_TRANSFORMERS):
        from headrace_workers.features.knowledge.rerankers.cross_encoder_verifier import CrossEncoderVerifier

        return CrossEncoderVerifier.load(name.removeprefix(_SENTENCE_TRANSFORMERS), most_seconds=most_seconds)
    generator = bounded(load(settings, name), ledger)
    price = prices.price(name)
    if price is not None and price.most(1_000_000) > 0 and price.counts_tokens:
        raise ConfigurationError(
            f"{name} has a price per token, and no job reserves money for a verifier's calls: name a model of your "
            "own machines, or set its price to 0 in models.toml"
        )
    return ModelVerifier(generator, most_seconds)
