"""The rules of admission of this process, made of what its features check."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace_workers.core.admission.check import AdmissionCheck, KnownEmbedder, KnownModels
from headrace_workers.core.admission.rules import AdmissionRules
from headrace_workers.core.feature import installed
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionParts:
    """The things that features make their checks of. `reach` says where webhooks may go, for webhooks alone."""

    ledger: Ledger
    models: KnownModels
    embedder: KnownEmbedder
    reach: Any


def admission_rules(parts: AdmissionParts, pipeline: Pipeline) -> AdmissionRules:
    """Return the rules by which this process takes jobs in, with the checks of all features in their order."""
    checks = tuple(check for feature in installed() if (check := feature.admission(parts)) is not None)
    return AdmissionRules(parts.models, pipeline, checks)


def checks_of_jobs() -> Sequence[AdmissionCheck]:
    """Return the checks of all features that need nothing but the job, for a process without a deployment."""
    return tuple(check for feature in installed() if (check := feature.admission(None)) is not None)
