"""What readability adds to headrace."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import Table

    from headrace_schemas.event_types import EventType
    from headrace_workers.core.environment import Variables
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.core.pipeline.stage import Stage
    from headrace_workers.runtime.settings import Settings


def _tables() -> "Sequence[Table]":
    from headrace_workers.features.readability import store

    return store.TABLES


def _events() -> "Sequence[EventType]":
    from headrace_workers.features.readability.events import READABILITY_MEASURED

    return (READABILITY_MEASURED,)


def _stages(settings: "Settings | None") -> "Sequence[Stage]":
    from headrace_workers.features.readability.settings import ReadabilitySettings
    from headrace_workers.features.readability.stage import stage

    own = ReadabilitySettings() if settings is None else settings.of(ReadabilitySettings)
    return (stage(own.longest_sentence),)


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.readability import store

    return Hooks(on_forget_jobs=store.forget)


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.readability import api

    return (api.router,)


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.readability.settings import ReadabilitySettings

    return (ReadabilitySettings,)


FEATURE = Feature(
    name="readability",
    tables=_tables,
    events=_events,
    stages=_stages,
    hooks=_hooks,
    routers=_routers,
    commands={"readability": "headrace_workers.features.readability.commands:readability"},
    settings=_settings,
)
