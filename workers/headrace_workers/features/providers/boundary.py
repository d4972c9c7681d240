"""The data boundary: which text may leave the machines of a deployment, and for whom.

A tenant's list of providers decides. Without a list, its texts stay on machines of the deployment. Admission asks the
ledger for each job (admission.py). A worker asks again before each call, since a list may have become shorter.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from headrace_schemas import HeadraceError, Message
from headrace_schemas.errors import InvalidRecord, ProviderNotAllowed
from headrace_workers.core.admission import AdmissionCheck, KnownModels, Named
from headrace_workers.core.cached_values import RecentReads
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.task import Job
from headrace_workers.core.ports import Completion, Generator, NoProbabilities, Request, provider_of
from headrace_workers.core.wrapped_generator import WrappedGenerator
from headrace_workers.features.providers.store import AllowedProviders

BELIEVED_SECONDS: Final = 2.0  # for which a worker relies on a list that it has read

Allows = Callable[[str, str], bool]  # a tenant, and a provider


def not_allowed(tenant: str, provider: str, alias: str) -> ProviderNotAllowed:
    """Return the error of a text that a provider may not see. It says how to permit it."""
    return ProviderNotAllowed(
        f"the model {alias} runs at the provider {provider}, which the tenant {tenant} does not allow: name a local "
        f"model, or permit it with `headrace providers allow {tenant} {provider}`"
    )


def allows(ledger: Ledger, believed: float = BELIEVED_SECONDS) -> Allows:
    """Return what tells whether a tenant allows a provider. A list may be `believed` seconds old. It raises Unavailable
    with the ledger: nothing is sent then.
    """

    def read(tenant: str) -> frozenset[str]:
        return ledger.of(AllowedProviders).by_tenant([tenant]).get(tenant, frozenset())

    lists = RecentReads(read, believed)
    return lambda tenant, provider: provider in lists(tenant)


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
        may = [each.tenant is not None and self._allows(each.tenant, self._provider) for each in requests]
        sent = [each for each, permitted in zip(requests, may, strict=True) if permitted]
        answers = iter(self._inner.generate(sent) if sent else ())
        return [
            next(answers) if permitted else not_allowed(each.tenant or "", self._provider, self.alias)
            for each, permitted in zip(requests, may, strict=True)
        ]

    def choice_probabilities(
        self, prompts: Sequence[tuple[Message, ...]], choices: Sequence[str]
    ) -> list[tuple[float, ...] | HeadraceError]:
        """Raise NoProbabilities: such prompts name no tenant, and so none may be sent."""
        raise NoProbabilities(f"{self.alias} runs at the provider {self._provider}, and gives no probabilities")


class BoundaryCheck(AdmissionCheck):
    """The check of the data boundary: of the job's model, of its chain, and of every judge.

    The resources that a job needs are the models at providers. Such a model exists for a tenant that allows its
    provider.
    """

    def __init__(self, models: KnownModels, pipeline: Pipeline, allowed: AllowedProviders) -> None:
        self._models = models
        self._pipeline = pipeline
        self._allowed = allowed

    def named(self, job: Job) -> Collection[str]:
        """Return the aliases of the models at providers that may see the job's text."""
        aliases = {each for name in self._pipeline.models_of(job) for each in self._models.chain(name) or (name,)}
        return [alias for alias in aliases if self._models.provider(alias) is not None]

    def unknown(self, named: Collection[Named]) -> Collection[Named]:
        """Return the models whose provider the tenant does not allow."""
        allowed = self._allowed.by_tenant({tenant for tenant, _ in named})
        return [each for each in named if not self._permits(allowed, *each)]

    def missing(self, named: Named) -> InvalidRecord:
        """Return the error of a job that would show its text to a provider that the tenant does not allow."""
        tenant, alias = named
        return not_allowed(tenant, self._models.provider(alias) or alias, alias)

    def _permits(self, allowed: dict[str, frozenset[str]], tenant: str, alias: str) -> bool:
        provider = self._models.provider(alias)
        return provider is None or provider in allowed.get(tenant, frozenset())
