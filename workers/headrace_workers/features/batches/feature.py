"""The batches feature: files, uploads, and batches of jobs."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.environment import Variables
    from headrace_workers.runtime.bridge.duty import BridgeParts, FeatureDuty


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.batches.api import batches, files, uploads

    return (
        files.router,
        uploads.router,
        batches.router,
    )


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.batches.commands import batch, run

    return (
        run.register,
        batch.register,
    )


def _duty(bridge: "BridgeParts") -> "FeatureDuty":
    from headrace_workers.features.batches.duty import duty_of

    return duty_of(bridge)


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.batches.settings import BatchSettings

    return (BatchSettings,)


FEATURE = Feature(name="batches", routers=_routers, commands=_commands, duties={"batches": _duty}, settings=_settings)
