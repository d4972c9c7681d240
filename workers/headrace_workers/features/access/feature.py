"""The access feature: API keys and quotas."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from sqlalchemy import Table

    from headrace_workers.core.ledger.hooks import Hooks


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.access.commands import keys, quotas

    return (
        keys.register,
        quotas.register,
    )


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.access.store import paid_bounds, quota_accounting

    return Hooks(
        on_admit=quota_accounting.admit,
        on_refused=quota_accounting.release_refused,
        hold_tenants=quota_accounting.hold,
        concerns=quota_accounting.has_reservation,
        on_completion=quota_accounting.settle,
        on_calls=quota_accounting.call,
        on_work=quota_accounting.work,
        on_known_costs=quota_accounting.correct,
        on_forget_jobs=paid_bounds.forget,
        on_prune=quota_accounting.expire,
    )


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.access import tables

    return tables_in(tables)


FEATURE = Feature(name="access", tables=_tables, commands=_commands, hooks=_hooks)
