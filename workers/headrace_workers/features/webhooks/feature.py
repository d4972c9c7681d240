"""What webhooks adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.admission.check import AdmissionCheck
    from headrace_workers.core.admission.parts import AdmissionParts


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.webhooks.api import webhook_deliveries, webhooks

    return (
        webhooks.router,
        webhook_deliveries.router,
    )


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.webhooks.commands import webhooks

    return (webhooks.register,)


def _admission(parts: "AdmissionParts") -> "AdmissionCheck":
    from headrace_workers.features.webhooks.admission import CallbackCheck
    from headrace_workers.features.webhooks.store.webhooks import Webhooks

    return CallbackCheck(parts.reach, parts.ledger.of(Webhooks).unknown)


FEATURE = Feature(name="webhooks", routers=_routers, commands=_commands, admission=_admission)
