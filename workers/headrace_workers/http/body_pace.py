"""The least speed of a body: a client that drips would hold a request for ever."""

from dataclasses import dataclass, field

GRACE_SECONDS = 60.0  # that may be waited in vain
LEAST_RATE = 1_024  # bytes a second, which make up for as much waiting


@dataclass(slots=True)
class Pace:
    """Of one body: `left` is in seconds. What comes at the least rate or faster may take as long as it takes."""

    left: float = field(default_factory=lambda: GRACE_SECONDS)

    def took(self, seconds: float, count: int) -> None:
        """Count so many bytes that came after so many seconds."""
        self.left = min(GRACE_SECONDS, self.left - seconds + count / LEAST_RATE)
