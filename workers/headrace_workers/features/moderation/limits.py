"""Limits of one verdict."""

from typing import Final

MAX_FINDINGS: Final = 1_000  # what the contract's ModerationVerdict takes; a text with more is blocked
# A detector may stop after so many detections of one category: the moderator then blocks, unless that category is
# allowed anyway.
MAX_DETECTIONS: Final = MAX_FINDINGS + 1
