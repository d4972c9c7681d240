"""The stage that delivers webhooks, beside the way of jobs: its units are written when an end is published."""

from typing import Final

from headrace_workers.core.pipeline.retry import RetrySchedule
from headrace_workers.core.pipeline.stage import Stage, Weight
from headrace_workers.features.webhooks.step import deliver
from headrace_workers.features.webhooks.store.deliveries import STAGE

# Seconds from each attempt to the next, 75 hours and a half in all, so that a receiver that is away for a long weekend
# misses nothing.
DELAYS: Final = (5.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)

DELIVER: Final = Stage(
    name=STAGE,
    order=100,
    step=deliver,
    weight=Weight.IO,
    needs=("webhooks", "sender", "sealer"),
    retry=RetrySchedule(delays=DELAYS),
    abreast=64,
)
