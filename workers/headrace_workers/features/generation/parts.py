"""The models of a process: the model that a worker holds, behind its boundary, and the models that count tokens."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from headrace_schemas import HeadraceError, Message
from headrace_workers.core.cached_values import RecentReads
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.stage import model_queue
from headrace_workers.core.redis import RedisNames, live_queues, redis_client
from headrace_workers.features.generation.feature import PROMPT_MARKS
from headrace_workers.features.generation.model_health import ModelHealth, monitored
from headrace_workers.features.generation.settings import GenerationSettings
from headrace_workers.features.providers.boundary import Allows, allows, not_allowed
from headrace_workers.models.engines.counting import CountingModels
from headrace_workers.models.generator import (
    Completion,
    Generator,
    LabelRequest,
    LabelScores,
    NoProbabilities,
    Request,
    WrappedGenerator,
    provider_of,
)
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.worker.parts import WorkerParts

_BELIEVED_SECONDS: Final = 2.0


def parts(worker: WorkerParts) -> Mapping[str, Callable[[], Any]]:
    """Return what builds the parts of this feature."""
    return {"generator": lambda: worker.once(generator)}


def generator(worker: WorkerParts) -> Generator:
    """Load the model that this worker holds, and follow its breaker. A provider's sees only what tenants allow."""
    assert worker.model is not None  # noqa: S101 - no worker holds one without a name
    found = load(worker.settings, worker.model)
    return bounded(monitored(found, ModelHealth(worker.ledger, worker.model)), worker.ledger)


def held_models(worker: WorkerParts) -> Callable[[str], bool]:
    """Return what tells whether a worker holds a model, as far as Redis knows: a moment ago, or nobody knows."""
    client, names = redis_client(worker.settings.redis), RedisNames(worker.settings.kafka.prefix)

    def holds(alias: str) -> bool:
        live = live_queues(client, names, [queue := model_queue(alias)])
        return live is None or queue in live

    return RecentReads(holds, _BELIEVED_SECONDS)


def load(settings: Settings, alias: str, *, needs_logprobs: bool = False) -> Generator:
    """Load the model with this alias as the deployment wants it."""
    from headrace_workers.models.engines.engine import LoadOptions
    from headrace_workers.models.engines.load_generator import load_generator

    options = LoadOptions(
        device=settings.of(GenerationSettings).device,
        compute_type=settings.of(GenerationSettings).compute_type,
        inter_threads=settings.of(GenerationSettings).inter_threads,
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
        for mark in marks:
            messages = mark.shown(tenant, messages)
        return messages

    return CountingModels(settings.home, registry, shown, longest_mark=sum(mark.longest for mark in marks))


def bounded(generator: Generator, ledger: Ledger) -> Generator:
    """Return a generator that shows a provider only what tenants allow it to see; a local one is the same as before."""
    provider = provider_of(generator)
    return generator if provider is None else BoundedGenerator(generator, provider, allows(ledger))


class BoundedGenerator(WrappedGenerator):
    """A generator of a provider that sees only texts of tenants who allow this provider. As thread-safe as `inner`."""

    def __init__(self, inner: Generator, provider: str, allows: Allows) -> None:
        super().__init__(inner)
        self._provider = provider
        self._allows = allows

    @property
    def provider(self) -> str:
        """Return whose machine answers."""
        return self._provider

    @property
    def urgent(self) -> "BoundedGenerator":
        """Return the same boundary around the model for urgent work."""
        return BoundedGenerator(self._inner.urgent, self._provider, self._allows)

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        """Answer the requests of tenants who allow the provider; each other one is a ProviderNotAllowed.

        A request without a tenant is never sent.
        """
        may = [request.tenant is not None and self._allows(request.tenant, self._provider) for request in requests]
        sent = [request for request, permitted in zip(requests, may, strict=True) if permitted]
        answers = iter(self._inner.generate(sent) if sent else ())
        return [
            next(answers) if permitted else not_allowed(request.tenant or "", self._provider, self.alias)
            for request, permitted in zip(requests, may, strict=True)
        ]

    def label_probabilities(self, requests: Sequence[LabelRequest]) -> list[LabelScores | HeadraceError]:
        """Raise NoProbabilities: a provider gives none."""
        raise NoProbabilities(f"{self.alias} runs at the provider {self._provider}, and gives no probabilities")
