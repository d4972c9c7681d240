"""The models of a process: the model that a worker holds, and the models that count tokens."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headrace_schemas import Message
from headrace_workers.core.feature import installed
from headrace_workers.core.ports import Generator
from headrace_workers.features.generation.engines.counting import CountingModels
from headrace_workers.features.generation.model_health import ModelHealth
from headrace_workers.features.generation.models.registry import Registry
from headrace_workers.features.generation.monitored_generator import MonitoredGenerator
from headrace_workers.features.generation.settings import GenerationSettings
from headrace_workers.features.providers.boundary import bounded
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.worker.parts import WorkerParts


def parts(worker: WorkerParts) -> Mapping[str, Callable[[], Any]]:
    """Return what builds the parts of this feature."""
    return {"generator": lambda: worker.once(generator)}


def generator(worker: WorkerParts) -> Generator:
    """Load the model that this worker holds, and follow its breaker. A provider's sees only what tenants allow."""
    assert worker.model is not None  # noqa: S101 - no worker holds one without a name
    found = load(worker.settings, worker.model)
    return bounded(MonitoredGenerator(found, ModelHealth(worker.ledger, worker.model)), worker.ledger)


def load(settings: Settings, alias: str, *, needs_logprobs: bool = False) -> Generator:
    """Load the model with this alias as the deployment wants it."""
    from headrace_workers.features.generation.engines.engine import LoadOptions
    from headrace_workers.features.generation.engines.load_generator import load_generator

    options = LoadOptions(
        device=settings.of(GenerationSettings).device,
        compute_type=settings.of(GenerationSettings).compute_type,
        inter_threads=settings.of(GenerationSettings).inter_threads,
        prefix_tokens=settings.of(GenerationSettings).prefix_tokens,
        redis=settings.redis,
        prefix=settings.kafka.prefix,
    )
    return load_generator(settings.home, alias, options, needs_logprobs=needs_logprobs)


def counting_models(settings: Settings, registry: Registry) -> CountingModels:
    """Return the models of a deployment, which count prompts with the marks that features add. Raise
    ConfigurationError if a feature's files are wrong.
    """
    marks = [found for feature in installed() if (found := feature.prompt_marks(settings)) is not None]

    def shown(tenant: str, messages: Sequence[Message]) -> Sequence[Message]:
        for each in marks:
            messages = each.shown(tenant, messages)
        return messages

    return CountingModels(settings.home, registry, shown, longest_mark=sum(each.longest for each in marks))
