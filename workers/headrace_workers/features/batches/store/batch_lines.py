"""A line of a batch as it is taken in."""

from dataclasses import dataclass, replace

from headrace_workers.core.ledger.ingest import NewJob


@dataclass(frozen=True, slots=True)
class NewLine:
    """A line that was read: its jobs and what they may cost, or why there are none. `end` is where the next begins.

    `text` is kept until it is answered, where the answer depends on it.
    """

    number: int
    end: int
    custom_id: str | None = None
    jobs: tuple[NewJob, ...] = ()
    tokens: int = 0
    text: bytes | None = None
    code: str | None = None
    reason: str | None = None
    param: str | None = None  # the field that is at fault

    def without_jobs(self, code: str, reason: str) -> "NewLine":
        """The line, refused."""
        return replace(self, jobs=(), tokens=0, text=None, code=code, reason=reason, param=None)
