"""The reviews feature: the queue of answers that people decide about."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from headrace_workers.core.feature import Feature, commands_in
from headrace_workers.features.quality.feature import SAMPLES

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import Connection, Table

    from headrace_workers.core.environment import Variables
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.core.ledger.ledger import Ledger
    from headrace_workers.features.quality.store import Sampled
    from headrace_workers.runtime.settings import Settings


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.reviews import api

    return (api.router,)


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.reviews import hooks

    return Hooks(
        on_held=hooks.enter_held,
        on_results=hooks.draw_ended,
        on_forget_jobs=hooks.close_of_jobs,
        on_prune=hooks.forget_items,
        incidents=hooks.incidents,
    )


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.reviews.settings import ReviewSettings

    return (ReviewSettings,)


def _upkeep(settings: "Settings", ledger: "Ledger") -> Callable[[], object]:
    from headrace_workers.features.reviews.hooks import ReviewQueue, ReviewUpkeep
    from headrace_workers.features.reviews.settings import FILE, ReviewSettings

    path = settings.of(ReviewSettings).reviews
    return ReviewUpkeep(ledger.of(ReviewQueue), path or settings.home / FILE, required=path is not None)


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.reviews import tables

    return tables_in(tables)


def _samples() -> "Callable[[Connection, str, int], Sequence[Sampled]]":
    from headrace_workers.features.reviews.progress.store import samples

    return samples


FEATURE = Feature(
    name="reviews",
    tables=_tables,
    routers=_routers,
    groups={"review": "Review answers: decide about held jobs, and label answers.\n\nExample: `headrace review next`"},
    commands=commands_in(
        "headrace_workers.features.reviews.commands",
        {
            "review next": "next_item",
            "review decide": "decide",
            "review list": "list_items",
            "review stats": "stats",
            "review rules": "show_rules",
        },
    ),
    hooks=_hooks,
    extensions=(SAMPLES.by(_samples),),
    settings=_settings,
    upkeep=_upkeep,
)
