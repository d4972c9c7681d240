"""The access feature: API keys, quotas and usage."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from headrace_workers.core.feature import Feature
from headrace_workers.core.scopes import Scope

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.ledger.hooks import Hooks

USAGE_READ: Final = Scope("usage:read")


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.access.api import usage

    return (usage.router,)


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.access.commands import keys, quotas

    return (
        keys.register,
        quotas.register,
    )


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.access.store import token_quotas, usage

    return Hooks(
        on_admit=token_quotas.admit,
        on_refused=token_quotas.release_refused,
        hold_tenants=token_quotas.hold,
        concerns=token_quotas.has_reservation,
        on_completion=token_quotas.settle,
        known_tenants=usage.tenants,
        on_results=usage.count,
        on_prune=token_quotas.expire,
    )


FEATURE = Feature(name="access", routers=_routers, commands=_commands, scopes=(USAGE_READ,), hooks=_hooks)
