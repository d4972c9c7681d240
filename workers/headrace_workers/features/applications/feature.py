"""The applications feature: versions, labels, and the commands for them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from sqlalchemy import Table

    from headrace_workers.core.admission import AdmissionParts, Resolver


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.applications import tables

    return tables_in(tables)


def _resolver(parts: "AdmissionParts") -> "Resolver":
    from headrace_workers.features.applications.resolver import ApplicationResolver
    from headrace_workers.features.applications.store import Applications

    return ApplicationResolver(parts.models, parts.ledger.of(Applications).find)


FEATURE = Feature(name="applications", tables=_tables, resolver=_resolver)
