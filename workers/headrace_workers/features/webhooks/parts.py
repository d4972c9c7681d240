"""Builders of the sender of webhooks."""

from collections.abc import Callable, Mapping
from typing import Any

from headrace_workers.features.webhooks.sealing import Sealer
from headrace_workers.features.webhooks.sender import Sender
from headrace_workers.features.webhooks.settings import SealingSettings, WebhookSettings
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.runtime.worker.parts import WorkerParts


def parts(worker: WorkerParts) -> Mapping[str, Callable[[], Any]]:
    """Return what builds the parts of this feature."""
    return {
        "webhooks": lambda: worker.ledger.of(Webhooks),
        "sender": lambda: Sender(worker.settings.of(WebhookSettings).reach),
        "sealer": lambda: Sealer(worker.settings.of(SealingSettings).webhook_key),
    }
