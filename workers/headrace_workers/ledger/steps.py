"""Steps as they are made: ready, leased at once, or tried already by whoever made them."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a step in the transaction that makes it: it is done, or waits `delay_ms` for another attempt."""

    began_at: int  # ms by the ledger's clock
    delay_ms: int | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step to be made ready. `payload` is None when the step reads the job itself.

    With `tried` its first attempt is over: whoever made it did it at once.
    """

    job_id: str
    stage: str
    queue: str
    group_key: str
    lane: int
    rank: int
    deadline: int
    turn: int
    tokens: int
    event_type: str
    payload: bytes | None = None
    read_bytes: int = 0  # what a worker reads of it: job and event
    tried: Tried | None = None


def row(step: NewStep, now: int, claim_id: int | None = None) -> dict[str, Any]:
    """The row of a step that is ready at `now` (ms), or taken by this claim, or whose first attempt is over."""
    tried = step.tried
    if tried is None:
        state, ready_at = ("ready" if claim_id is None else "leased"), now
    elif tried.delay_ms is None:
        state, ready_at = "done", tried.began_at
    else:
        state, ready_at = "waiting", now + tried.delay_ms
    done = state == "done"
    return {
        "job_id": step.job_id,
        "stage": step.stage,
        "state": state,
        "queue": step.queue,
        "group_key": step.group_key,
        "lane": step.lane,
        "rank": step.rank,
        "deadline": step.deadline,
        "turn": step.turn,
        "tokens": step.tokens,
        "attempts": 0 if state == "ready" else 1,
        "ready_at": ready_at,
        "started_at": tried.began_at if tried else None,
        "ended_at": now if done else None,
        "claim_id": claim_id,
        "event_type": step.event_type,
        "payload": None if done else step.payload,
        "read_bytes": step.read_bytes,
        "reason": tried.reason if tried else None,
    }
