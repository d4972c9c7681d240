"""The reviews feature: the queue of answers that people decide about."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from sqlalchemy import Table

    from headrace_workers.core.ledger.hooks import Hooks


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.reviews import hooks

    return Hooks(
        on_held=hooks.enter_held,
        on_results=hooks.draw_ended,
        on_forget_jobs=hooks.close_of_jobs,
        on_prune=hooks.forget_items,
    )


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.reviews import tables

    return tables_in(tables)


FEATURE = Feature(
    name="reviews",
    tables=_tables,
    hooks=_hooks,
)
