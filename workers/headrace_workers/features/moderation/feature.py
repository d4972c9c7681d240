"""What moderation adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.environment import Variables


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.moderation.api import moderations

    return (moderations.router,)


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.moderation.commands import moderation

    return (moderation.register,)


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.moderation.settings import ModerationSettings

    return (ModerationSettings,)


FEATURE = Feature(name="moderation", routers=_routers, commands=_commands, settings=_settings)
