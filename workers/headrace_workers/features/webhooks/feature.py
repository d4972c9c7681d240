"""What webhooks adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.environment import Variables


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.webhooks.api import webhook_deliveries, webhooks

    return (
        webhooks.router,
        webhook_deliveries.router,
    )


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.webhooks.commands import webhooks

    return (webhooks.register,)


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.webhooks.settings import SealingSettings, WebhookSettings

    return (WebhookSettings, SealingSettings)


FEATURE = Feature(name="webhooks", routers=_routers, commands=_commands, settings=_settings)
