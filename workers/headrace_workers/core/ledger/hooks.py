"""What features do inside the transactions of the core.

A hook is called once a transaction for all that it is about, never once a job, and does no I/O beside its transaction.
The core locks claims, jobs and steps, in that order; then it calls hooks, in the order of `FEATURES`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

from sqlalchemy import Connection

from headrace_workers.core.feature import installed

Prune: TypeAlias = Callable[[Connection, int], bool]
DocumentsChanged: TypeAlias = Callable[[Connection, Mapping[int, str], str | None], None]


def _nothing_to_prune(_connection: Connection, _older_than_ms: int) -> bool:
    return False


def _ignore_documents(_connection: Connection, _reasons: Mapping[int, str], _version: str | None) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The hooks of one feature; a feature names those that it needs.

    `on_prune(connection, older_than_ms)` forgets a bounded number of rows, and returns whether there are more.

    `on_documents_changed(connection, reasons, version)` is called when documents of knowledge bases changed or were
    removed: the reasons by document id, and the version that they have now (None: they are gone).
    """

    on_prune: Prune = _nothing_to_prune
    on_documents_changed: DocumentsChanged = _ignore_documents


@cache
def hooks() -> tuple[Hooks, ...]:
    """Return the hooks of all features, in their order."""
    return tuple(found for feature in installed() if (found := feature.hooks()) is not None)
