"""The providers feature: the data boundary between a deployment and the providers of models."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from sqlalchemy import Table

    from headrace_workers.core.admission import AdmissionCheck, AdmissionParts


def _admission(parts: "AdmissionParts") -> "AdmissionCheck":
    from headrace_workers.features.providers.boundary import BoundaryCheck
    from headrace_workers.features.providers.store import AllowedProviders

    return BoundaryCheck(parts.models, parts.ledger.of(AllowedProviders))


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.providers import tables

    return tables_in(tables)


FEATURE = Feature(name="providers", tables=_tables, admission=_admission)
