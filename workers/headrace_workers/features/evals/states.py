"""The words for the state of an eval's run, and of a run's item."""

from typing import Final

QUEUED: Final = "queued"
IN_PROGRESS: Final = "in_progress"
CANCELING: Final = "canceling"
COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELED: Final = "canceled"

# An item has no state until its result is known.
PASS, FAIL, ERROR = "pass", "fail", "error"
