"""What webhooks adds to headrace."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.ledger.ledger import Ledger
    from headrace_workers.core.pipeline.following import UnitsOf
    from headrace_workers.core.pipeline.stage import Stage
    from headrace_workers.runtime.settings import Settings
    from headrace_workers.runtime.worker.parts import WorkerParts


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.webhooks.api import webhook_deliveries, webhooks

    return (
        webhooks.router,
        webhook_deliveries.router,
    )


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.webhooks.commands import webhooks

    return (webhooks.register,)


def _stages(_settings: "Settings | None") -> "Sequence[Stage]":
    from headrace_workers.features.webhooks.stage import DELIVER

    return (DELIVER,)


def _follows(settings: "Settings", ledger: "Ledger", believed: float) -> "UnitsOf":
    from headrace_workers.features.webhooks.payloads import Wording
    from headrace_workers.features.webhooks.telling import Telling

    return Telling(ledger, Wording(settings.webhook_bytes, settings.public_url), believed).units


def _parts(worker: "WorkerParts") -> Mapping[str, Callable[[], Any]]:
    from headrace_workers.features.webhooks.parts import parts

    return parts(worker)


FEATURE = Feature(name="webhooks", routers=_routers, commands=_commands, stages=_stages, parts=_parts, follows=_follows)
