"""What looking up an answer comes to."""

from dataclasses import dataclass

from headrace_schemas import Answer
from headrace_schemas.recall import CacheTier


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """An answer that was given before."""

    entry_id: int
    scope: str
    tier: CacheTier
    answer: Answer
    first_job: str
    age: float  # s
    saved_ms: float
    similarity: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """None may be served. What this job makes fills `entry_id`. What was nearest, and why that was none."""

    entry_id: int | None = None
    similarity: float | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Awaited:
    """Another job makes the answer at this moment."""

    job_id: str


Found = Hit | Miss | Awaited
