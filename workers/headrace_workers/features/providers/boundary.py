"""The data boundary: which text may leave the machines of a deployment, and for whom.

A tenant's list of providers decides. Without a list, its texts stay on machines of the deployment. Admission asks the
ledger for each job (admission.py). A worker asks again before each call, since a list may have become shorter.
"""

from collections.abc import Callable, Collection
from typing import Final

from headrace_schemas.errors import InvalidRecord, ProviderNotAllowed
from headrace_workers.core.admission import AdmissionCheck, KnownModels, Named
from headrace_workers.core.cached_values import RecentReads
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.task import Job
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


class BoundaryCheck(AdmissionCheck):
    """The check of the data boundary: of the job's model, of its chain, and of every judge.

    The resources that a job needs are the models at providers. Such a model exists for a tenant that allows its
    provider.
    """

    def __init__(self, models: KnownModels, allowed: AllowedProviders) -> None:
        self._models = models
        self._allowed = allowed

    def named(self, _job: Job, models: Collection[str]) -> Collection[str]:
        """Return the aliases of the models at providers that may see the job's text."""
        aliases = {text for name in models for text in self._models.chain(name) or (name,)}
        return [alias for alias in aliases if self._models.provider(alias) is not None]

    def unknown(self, named: Collection[Named]) -> Collection[Named]:
        """Return the models whose provider the tenant does not allow."""
        allowed = self._allowed.by_tenant({tenant for tenant, _ in named})
        return [row for row in named if not self._permits(allowed, *row)]

    def missing(self, named: Named) -> InvalidRecord:
        """Return the error of a job that would show its text to a provider that the tenant does not allow."""
        tenant, alias = named
        return not_allowed(tenant, self._models.provider(alias) or alias, alias)

    def _permits(self, allowed: dict[str, frozenset[str]], tenant: str, alias: str) -> bool:
        provider = self._models.provider(alias)
        return provider is None or provider in allowed.get(tenant, frozenset())
