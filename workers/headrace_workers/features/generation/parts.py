"""The models of a process: the model that a worker holds, and the models that count tokens."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from headrace_schemas import Message
from headrace_workers.core.cached_values import RecentReads
from headrace_workers.core.pipeline.stage import model_queue
from headrace_workers.core.ports import Generator
from headrace_workers.features.generation.engines.counting import CountingModels
from headrace_workers.features.generation.feature import PROMPT_MARKS
from headrace_workers.features.generation.model_health import ModelHealth, MonitoredGenerator
from headrace_workers.features.generation.models.registry import Registry
from headrace_workers.features.generation.settings import GenerationSettings
from headrace_workers.features.providers.boundary import bounded
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.redis import RedisNames, live_queues, redis_client
from headrace_workers.runtime.worker.parts import WorkerParts

_BELIEVED_SECONDS: Final = 2.0


def parts(worker: WorkerParts) -> Mapping[str, Callable[[], Any]]:
    """Return what builds the parts of this feature."""
    return {"generator": lambda: worker.once(generator)}


def generator(worker: WorkerParts) -> Generator:
    """Load the model that this worker holds, and follow its breaker. A provider's sees only what tenants allow."""
    assert worker.model is not None  # noqa: S101 - no worker holds one without a name
    found = load(worker.settings, worker.model)
    return bounded(MonitoredGenerator(found, ModelHealth(worker.ledger, worker.model)), worker.ledger)


def held_models(worker: WorkerParts) -> Callable[[str], bool]:
    """Return what tells whether a worker holds a model, as far as Redis knows: a moment ago, or nobody knows."""
    client, names = redis_client(worker.settings.redis), RedisNames(worker.settings.kafka.prefix)

    def holds(alias: str) -> bool:
        live = live_queues(client, names, [queue := model_queue(alias)])
        return live is None or queue in live

    return RecentReads(holds, _BELIEVED_SECONDS)


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


class PromptMarks(Protocol):
    """Marks that are added to the prompts of models, and that stand in no job."""

    @property
    def longest(self) -> int:
        """Return the most bytes that a mark adds to a conversation."""

    def shown(self, tenant: str, messages: Sequence[Message]) -> Sequence[Message]:
        """Return a tenant's conversation as its model reads it, with the mark."""


def counting_models(settings: Settings, registry: Registry) -> CountingModels:
    """Return the models of a deployment, which count prompts with the marks that features add. Raise
    ConfigurationError if a feature's files are wrong.
    """
    marks = [marks_of(settings) for marks_of in PROMPT_MARKS.values()]

    def shown(tenant: str, messages: Sequence[Message]) -> Sequence[Message]:
        for each in marks:
            messages = each.shown(tenant, messages)
        return messages

    return CountingModels(settings.home, registry, shown, longest_mark=sum(each.longest for each in marks))
