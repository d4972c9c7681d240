"""Settings of batches."""

from typing import ClassVar

from headrace_workers.core.environment import Variables, number


class BatchSettings(Variables):
    """Settings of batches."""

    title: ClassVar[str] = "Batches"

    files_retention: float = number(
        30 * 86_400.0,
        "Seconds that batches are remembered after their end, and their files kept.",
        read_by="bridges, gateways and `headrace batch`",
    )
    batch_window: int = 20_000  # lines of one batch that are under way at a time
