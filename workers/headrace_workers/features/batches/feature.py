"""The batches feature: batches of jobs."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from headrace_workers.core.feature import ExtensionPoint, Feature, commands_in
from headrace_workers.core.scopes import Scope
from headrace_workers.files import FILE_USERS

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import ColumnElement, Connection, Select, Table

    from headrace_workers.core.environment import Variables
    from headrace_workers.runtime.bridge.duty import BridgeParts, FeatureDuty

BATCHES_READ: Final = Scope("batches:read")
BATCHES_WRITE: Final = Scope("batches:write")

# Each value is called when a batch's output or error file was written again, in other pieces, with the batch's id and
# whether it is the output.
FILE_REWRITTEN: "Final[ExtensionPoint[Callable[[Connection, str, bool], object]]]" = ExtensionPoint()


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.batches import api

    return (api.router,)


def _users_of_file() -> "Callable[[str | ColumnElement[str]], Select[str]]":
    from headrace_workers.features.batches.store import batches

    return batches.users_of_file


def _duty(bridge: "BridgeParts") -> "FeatureDuty":
    from headrace_workers.features.batches.duty import duty_of

    return duty_of(bridge)


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.batches.settings import BatchSettings

    return (BatchSettings,)


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.batches import tables

    return tables_in(tables)


def _metrics() -> "Sequence[Callable[[Any], Any]]":
    from headrace_workers.features.batches import metrics

    return (metrics.lines,)


FEATURE = Feature(
    name="batches",
    metrics=_metrics,
    tables=_tables,
    routers=_routers,
    groups={"batch": "Submit files of many jobs as batches, watch them, read their results."},
    commands=commands_in(
        "headrace_workers.features.batches.commands.run",
        {"run": "run"},
    )
    | commands_in(
        "headrace_workers.features.batches.commands.batch",
        {
            "batch submit": "submit",
            "batch status": "status",
            "batch results": "results",
            "batch cancel": "cancel",
            "batch retry-failed": "retry_failed",
        },
    ),
    scopes=(BATCHES_READ, BATCHES_WRITE),
    duties={"batches": _duty},
    settings=_settings,
    extensions=(FILE_USERS.by(_users_of_file),),
)
