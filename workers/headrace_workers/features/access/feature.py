"""The access feature: API keys and quotas."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from headrace_workers.core.feature import ExtensionPoint, Feature, commands_in

if TYPE_CHECKING:  # most processes do without it
    from sqlalchemy import Connection, Table

    from headrace_schemas.budget import BudgetReached
    from headrace_workers.core.ledger.hooks import Hooks

# Each value is called in the transaction that spends a percentage of a budget, with the events that say so, by their
# ids.
BUDGETS_REACHED: "Final[ExtensionPoint[Callable[[Connection, Mapping[str, BudgetReached]], object]]]" = ExtensionPoint()


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.access.store import quotas

    return Hooks(
        on_admit=quotas.admit,
        on_refused=quotas.release_refused,
        hold_tenants=quotas.hold,
        concerns=quotas.has_reservation,
        on_completion=quotas.settle,
        on_calls=quotas.call,
        on_work=quotas.work,
        on_known_costs=quotas.correct,
        on_forget_jobs=quotas.forget_bounds,
        on_prune=quotas.expire,
    )


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.access import tables

    return tables_in(tables)


FEATURE = Feature(
    name="access",
    tables=_tables,
    groups={"keys": "Manage the API keys of the HTTP gateway."},
    commands=commands_in(
        "headrace_workers.features.access.commands",
        {
            "keys create": "create",
            "keys list": "list_keys",
            "keys rotate": "rotate",
            "keys revoke": "revoke",
        },
    ),
    hooks=_hooks,
)
