"""The spend feature: prices, what tenants use and what it costs, and budgets."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from headrace_workers.core.feature import Feature, commands_in
from headrace_workers.core.scopes import Scope

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import Table

    from headrace_workers.core.environment import Variables
    from headrace_workers.core.ledger.hooks import Hooks


USAGE_READ: Final = Scope("usage:read")


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.spend import api

    return (api.router,)


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.spend import store

    return Hooks(
        known_tenants=store.tenants_with_usage,
        on_results=store.count_usage,
        on_ends=store.count_spending,
        on_known_costs=store.correct_spending,
    )


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.spend.settings import SpendSettings

    return (SpendSettings,)


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.spend import store

    return tables_in(store)


def _metrics() -> "Sequence[Callable[[Any], Any]]":
    from headrace_workers.features.spend import metrics

    return (metrics.usage,)


FEATURE = Feature(
    name="spend",
    metrics=_metrics,
    tables=_tables,
    routers=_routers,
    groups={"limits": "Limit the tokens and the money that tenants and keys may use."},
    commands=commands_in(
        "headrace_workers.features.spend.commands",
        {
            "cost": "cost",
            "limits set": "set_limit",
            "limits list": "list_limits",
            "limits remove": "remove_limits",
        },
    ),
    scopes=(USAGE_READ,),
    hooks=_hooks,
    settings=_settings,
)
