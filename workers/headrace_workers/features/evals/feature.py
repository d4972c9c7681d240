"""The evals feature: `headrace evaluate`, and OpenAI's evals."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from headrace_workers.core.feature import Feature, commands_in
from headrace_workers.core.scopes import Scope
from headrace_workers.features.batches.feature import FILE_REWRITTEN

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import Connection, Table

    from headrace_workers.runtime.bridge.duty import BridgeParts, FeatureDuty

EVALS_READ: Final = Scope("evals:read")
EVALS_WRITE: Final = Scope("evals:write")


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.evals.api import evals

    return (evals.router,)


def _read_again() -> "Callable[[Connection, str, bool], object]":
    from headrace_workers.features.evals import store

    return store.read_again


def _duty(bridge: "BridgeParts") -> "FeatureDuty":
    from headrace_workers.features.evals.duty import duty_of

    return duty_of(bridge)


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.evals import tables

    return tables_in(tables)


FEATURE = Feature(
    name="evals",
    tables=_tables,
    routers=_routers,
    commands=commands_in(
        "headrace_workers.features.evals.commands",
        {"evaluate": "evaluate"},
    ),
    scopes=(EVALS_READ, EVALS_WRITE),
    duties={"evals": _duty},
    extensions=(FILE_REWRITTEN.by(_read_again),),
)
