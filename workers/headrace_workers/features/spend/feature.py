"""The spend feature: prices, what models cost, and budgets."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.environment import Variables
    from headrace_workers.core.ledger.hooks import Hooks


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.spend.api import usage

    return (usage.router,)


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.spend.commands import budgets, cost

    return (cost.register, budgets.register)


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.spend.store import spent_days

    return Hooks(on_ends=spent_days.count)


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.spend.settings import SpendSettings

    return (SpendSettings,)


FEATURE = Feature(name="spend", routers=_routers, commands=_commands, hooks=_hooks, settings=_settings)
