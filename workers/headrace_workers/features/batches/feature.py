"""The batches feature: files, uploads, and batches of jobs."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from headrace_workers.core.feature import Feature
from headrace_workers.core.scopes import Scope

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.environment import Variables
    from headrace_workers.runtime.bridge.duty import BridgeParts, FeatureDuty

FILES_READ: Final = Scope("files:read")
FILES_WRITE: Final = Scope("files:write")
BATCHES_READ: Final = Scope("batches:read")
BATCHES_WRITE: Final = Scope("batches:write")


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


FEATURE = Feature(
    name="batches",
    routers=_routers,
    commands=_commands,
    scopes=(FILES_READ, FILES_WRITE, BATCHES_READ, BATCHES_WRITE),
    duties={"batches": _duty},
    settings=_settings,
)
