"""The tuning feature: models that learn from examples."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from sqlalchemy import Table

    from headrace_workers.core.ledger.hooks import Hooks


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.tuning import commands

    return (commands.register,)


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.tuning import store

    return Hooks(
        on_ingest=store.begin_runs,
        concerns=store.is_tuning,
        hold_rows=store.hold_runs,
        on_completion=store.end_runs,
        on_prune=store.forget_old,
    )


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.tuning import tables

    return tables_in(tables)


FEATURE = Feature(name="tuning", commands=_commands, hooks=_hooks, tables=_tables)
