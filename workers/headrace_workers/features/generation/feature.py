"""What generation adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.environment import Variables
    from headrace_workers.core.ledger.hooks import Hooks


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.generation.api import chat, completions, models, responses

    return (
        chat.router,
        completions.router,
        responses.router,
        models.router,
    )


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.generation.commands import models

    return (models.register,)


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.generation.store import responses

    return Hooks(on_prune=responses.forget)


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.generation.settings import GenerationSettings

    return (GenerationSettings,)


FEATURE = Feature(name="generation", routers=_routers, commands=_commands, hooks=_hooks, settings=_settings)
