"""The rules of admission of this process, made of what its features check."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headrace_workers.core.admission.check import AdmissionCheck, KnownEmbedder, KnownModels
from headrace_workers.core.admission.rules import AdmissionRules
from headrace_workers.core.environment import SettingsOf
from headrace_workers.core.feature import Feature, installed
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionParts:
    """The things that features make their checks of."""

    ledger: Ledger
    pipeline: Pipeline
    models: KnownModels
    embedder: KnownEmbedder
    settings: SettingsOf


def admission_rules(parts: AdmissionParts) -> AdmissionRules:
    """Return the rules by which this process takes jobs in, with the checks of all features in their order."""

    def checks_of(feature: Feature) -> Iterator[AdmissionCheck | None]:
        yield feature.job_check()
        yield feature.admission(parts)

    checks = tuple(check for feature in installed() for check in checks_of(feature) if check is not None)
    return AdmissionRules(parts.models, parts.pipeline, checks)


def job_checks() -> Sequence[AdmissionCheck]:
    """Return the checks of all features that need nothing but the job, for a process without a deployment."""
    return tuple(check for feature in installed() if (check := feature.job_check()) is not None)
