"""The traces feature: spans of jobs that ended, for the tool that a team reads traces with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from sqlalchemy import Table

    from headrace_workers.core.environment import Variables


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.traces.settings import TraceSettings

    return (TraceSettings,)


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.traces import store

    return tables_in(store)


def _duty(bridge: Any) -> Any:
    from headrace_workers.features.traces import duty

    return duty.duty_of(bridge)


FEATURE = Feature(name="traces", settings=_settings, tables=_tables, duties={"traces": _duty})
