"""The quality feature: people's labels, and the agreement of verdicts with them."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from headrace_workers.core.feature import ExtensionPoint, Feature, commands_in
from headrace_workers.core.scopes import REVIEWS_TEXTS, Scope

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import Connection, Table

    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.quality.store import Sampled

SAMPLES: "Final[ExtensionPoint[Callable[[Connection, str, int], Sequence[Sampled]]]]" = ExtensionPoint()
"""What was drawn of a tenant's answers for people to label, be it labelled or not: the newest so many."""

REVIEWS_READ: Final = Scope("reviews:read")
REVIEWS_WRITE: Final = Scope("reviews:write")


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.quality import api

    return (api.router,)


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.quality import store

    return Hooks(on_reviews=store.take_reviews, on_forget_jobs=store.keep_verdicts, on_prune=store.forget_verdicts)


def _status() -> Sequence[Callable[[Any], Any]]:
    from headrace_workers.features.quality import status

    return (status.pass_rates,)


def _metrics() -> Sequence[Callable[[Any], Any]]:
    from headrace_workers.features.quality import metrics

    return (metrics.pass_rates,)


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.quality import tables

    return tables_in(tables)


FEATURE = Feature(
    name="quality",
    tables=_tables,
    routers=_routers,
    commands=commands_in(
        "headrace_workers.features.quality.commands.quality",
        {"quality": "quality"},
    )
    | commands_in(
        "headrace_workers.features.quality.commands.labels",
        {
            "review import": "import_labels",
            "review labels": "labels",
            "review unlabel": "remove",
        },
    ),
    scopes=(REVIEWS_READ, REVIEWS_WRITE, REVIEWS_TEXTS),
    hooks=_hooks,
    status=_status,
    metrics=_metrics,
)
