"""From a name to a loaded verifier."""

from pathlib import Path

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.generation.settings import GenerationSettings
from headrace_workers.models.generator import provider_of
from headrace_workers.models.verifiers.verifier import Verifier
from headrace_workers.models.verifiers.verify_stage import IN_PROCESS, ModelVerifier, model_of_verifier


def load_verifier_here(home: Path, name: str) -> Verifier:
    """Load a verifier for texts of this machine's own user, which name no tenant; no time is too long for it.

    ConfigurationError when it cannot be loaded, or is a provider's: no tenant has allowed that.
    """
    from headrace_workers.models.engines.engine import LoadOptions
    from headrace_workers.models.engines.load_generator import load_generator

    if model_of_verifier(name) is None:
        return load_verifier(name)
    own = GenerationSettings.from_env()
    generator = load_generator(home, name, LoadOptions(device=own.device, compute_type=own.compute_type))
    if (provider := provider_of(generator)) is not None:
        raise ConfigurationError(f"{name} runs at the provider {provider}, which may not see texts without a tenant")
    return ModelVerifier(generator)


def load_verifier(name: str, most_seconds: float | None = None) -> Verifier:
    """Load the model behind `sentence-transformers:`. ConfigurationError when it cannot be loaded."""
    from headrace_workers.models.embedders.sentence_transformers_models import CrossEncoderVerifier

    return CrossEncoderVerifier.load(name.removeprefix(IN_PROCESS), most_seconds=most_seconds)
