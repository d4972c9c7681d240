"""The webhooks feature's part of `/metrics`."""

from typing import Final

from headrace_workers.core.ledger.end_counters import EndCounter
from headrace_workers.features.webhooks.store.deliveries import ends_between

END_COUNTERS: Final = (
    EndCounter(
        "headrace_webhook_deliveries",
        "Deliveries of webhooks that ended: delivered, failed after all attempts, or dropped with their endpoint.",
        ("result",),
        ends_between,
    ),
)
