"""Limits and versions that all detectors share, and the error of one that cannot answer."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final

from headrace_schemas.errors import Unavailable

MAX_FINDINGS: Final = 1_000  # what the contract's ModerationVerdict takes; a text with more is blocked
# A detector may stop after so many detections of one category: the moderator then blocks, unless that category is
# allowed anyway.
MAX_DETECTIONS: Final = MAX_FINDINGS + 1


class NoAnswer(Unavailable):
    """An answer of a guard or endpoint cannot be used. The message quotes nothing of the text.

    `passes`: it may give one the next time; where it refuses the key or has nothing at this address, it will not.
    """

    def __init__(self, words: str, *, passes: bool = True) -> None:
        super().__init__(words)
        self.passes = passes


def version_of(package: str) -> str:
    """Return headrace's version, and that of the package whose patterns or numbers a detector uses: `0.1.0+1.5.0`."""
    return with_part(_version(package))


def with_part(part: str) -> str:
    """Return headrace's version, and `part` for the data or model that a detector uses."""
    return f"{_version('headrace')}+{part}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
