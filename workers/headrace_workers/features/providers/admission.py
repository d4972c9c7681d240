"""Admission of models at providers: the tenant must allow each provider that may see its text."""

from collections.abc import Collection

from headrace_schemas.errors import InvalidRecord
from headrace_workers.core.admission.check import AdmissionCheck, KnownModels, Named
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.task import Job
from headrace_workers.features.providers.boundary import not_allowed
from headrace_workers.features.providers.store.allowed_providers import AllowedProviders


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
