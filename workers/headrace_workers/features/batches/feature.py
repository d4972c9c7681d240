"""What batches adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.environment import Variables


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.batches.api import batches, files, uploads

    return (
        files.router,
        uploads.router,
        batches.router,
    )


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.batches.commands import batch

    return (batch.register,)


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.batches.settings import BatchSettings

    return (BatchSettings,)


FEATURE = Feature(name="batches", routers=_routers, commands=_commands, settings=_settings)
