"""The applications feature: versions, labels, and the commands for them."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature, commands_in
from headrace_workers.features.generation.feature import NAMES

if TYPE_CHECKING:  # most processes do without it
    from sqlalchemy import Table

    from headrace_workers.core.admission import AdmissionParts, Resolver
    from headrace_workers.core.ledger.ledger import Ledger


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.applications import tables

    return tables_in(tables)


def _resolver(parts: "AdmissionParts") -> "Resolver":
    from headrace_workers.features.applications.resolver import ApplicationResolver
    from headrace_workers.features.applications.store import Applications

    return ApplicationResolver(parts.models, parts.ledger.of(Applications).find)


def _names() -> "Callable[[Ledger, str, str | None], Sequence[Mapping[str, Any]]]":
    from headrace_workers.features.applications.names import names

    return names


def _status() -> Sequence[Callable[[Any], Any]]:
    from headrace_workers.features.applications.status import hidden

    return (hidden,)


FEATURE = Feature(
    name="applications",
    tables=_tables,
    resolver=_resolver,
    groups={"apps": "Manage applications: a use case in one versioned file."},
    commands=commands_in(
        "headrace_workers.features.applications.commands",
        {
            "apps push": "push",
            "apps list": "list_applications",
            "apps test": "try_version",
            "apps label": "label",
            "apps pull": "pull",
        },
    ),
    status=_status,
    extensions=(NAMES.by(_names),),
)
