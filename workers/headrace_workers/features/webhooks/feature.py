"""The webhooks feature: endpoints, deliveries, and callbacks of jobs."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from headrace_workers.core.feature import Feature, commands_in
from headrace_workers.core.scopes import Scope
from headrace_workers.features.access.feature import BUDGETS_REACHED
from headrace_workers.features.webhooks.settings import WebhookSettings
from headrace_workers.runtime.settings import GatewaySettings

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import Connection, Table

    from headrace_schemas.budget import BudgetReached
    from headrace_workers.core.admission import AdmissionCheck, AdmissionParts
    from headrace_workers.core.environment import Variables
    from headrace_workers.core.ledger.end_counters import EndCounter
    from headrace_workers.core.ledger.event_units import UnitsOf
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.core.ledger.ledger import Ledger
    from headrace_workers.core.pipeline.stage import Stage
    from headrace_workers.runtime.settings import Settings
    from headrace_workers.runtime.worker.parts import WorkerParts

WEBHOOKS_READ: Final = Scope("webhooks:read")
WEBHOOKS_WRITE: Final = Scope("webhooks:write")


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.webhooks import api

    return (api.router,)


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.webhooks.store import deliveries, endpoints

    return Hooks(
        on_ingest=endpoints.keep_callbacks,
        on_forget_jobs=deliveries.forget,
        on_prune=endpoints.forget_places,
    )


def _tell_budgets() -> "Callable[[Connection, Mapping[str, BudgetReached]], object]":
    from headrace_workers.features.webhooks.store import deliveries

    return deliveries.tell_budgets


def _admission(parts: "AdmissionParts") -> "AdmissionCheck":
    from headrace_workers.features.webhooks.admission import CallbackCheck
    from headrace_workers.features.webhooks.store.webhooks import Webhooks

    return CallbackCheck(parts.settings.of(WebhookSettings).reach, parts.ledger.of(Webhooks).unknown)


def _stages(_settings: "Settings | None") -> "Sequence[Stage]":
    from headrace_workers.features.webhooks.stage import DELIVER

    return (DELIVER,)


def _follows(settings: "Settings", ledger: "Ledger", believed: float) -> "UnitsOf":
    from headrace_workers.features.webhooks.telling import Telling, Wording

    return Telling(ledger, Wording(base=settings.of(GatewaySettings).public_url), believed).units


def _parts(worker: "WorkerParts") -> Mapping[str, Callable[[], Any]]:
    from headrace_workers.features.webhooks.sender import Sender
    from headrace_workers.features.webhooks.settings import SealingSettings
    from headrace_workers.features.webhooks.signing import Sealer
    from headrace_workers.features.webhooks.store.webhooks import Webhooks

    return {
        "webhooks": lambda: worker.ledger.of(Webhooks),
        "sender": lambda: Sender(worker.settings.of(WebhookSettings).reach),
        "sealer": lambda: Sealer(worker.settings.of(SealingSettings).webhook_key),
    }


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.webhooks.settings import SealingSettings, WebhookSettings

    return (WebhookSettings, SealingSettings)


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.webhooks import tables

    return tables_in(tables)


def _end_counters() -> "Sequence[EndCounter]":
    from headrace_workers.features.webhooks import metrics

    return metrics.END_COUNTERS


FEATURE = Feature(
    name="webhooks",
    end_counters=_end_counters,
    tables=_tables,
    routers=_routers,
    groups={"webhooks": "Manage webhook endpoints and their deliveries."},
    commands=commands_in(
        "headrace_workers.features.webhooks.commands",
        {
            "webhooks add": "add",
            "webhooks list": "list_endpoints",
            "webhooks secret": "secret",
            "webhooks test": "try_out",
            "webhooks rotate": "rotate",
            "webhooks update": "change",
            "webhooks remove": "remove",
            "webhooks deliveries": "deliveries",
            "webhooks replay": "replay",
        },
    ),
    scopes=(WEBHOOKS_READ, WEBHOOKS_WRITE),
    hooks=_hooks,
    admission=_admission,
    stages=_stages,
    parts=_parts,
    follows=_follows,
    settings=_settings,
    extensions=(BUDGETS_REACHED.by(_tell_budgets),),
)
