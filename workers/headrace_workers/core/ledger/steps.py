"""Steps as they are made: ready, leased at once, or tried already by their maker."""

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from headrace_workers.core.tables import NEVER

HELD: Final = "held"  # the state of a step that waits for a person, or until something works


@dataclass(frozen=True, slots=True)
class Tried:
    """Outcome of a step in the transaction that makes it. Without a delay and a reason it is done, or dead.

    Else it is tried again after `delay_ms`, or, without a delay, it is parked: until the job `waits_for` has ended, or
    someone releases it, for `longest_ms` at most.
    """

    began_at: int  # ms by the ledger's clock
    delay_ms: int | None = None
    reason: str | None = None
    waits_for: str | None = None
    longest_ms: int | None = None

    @property
    def state(self) -> str:
        """Return the state of its step."""
        if self.delay_ms is not None:
            return "waiting"
        if self.reason is None:
            return "done"
        return parked_state(self.waits_for)


def parked_state(waits_for: str | None) -> str:
    """Return the state of a step that waits for another job's end, or for a person."""
    return HELD if waits_for is None else "parked"


def ready_at_latest(now: int, longest_ms: int | None) -> int:
    """Return the time at which a step that is parked, or held, is ready again in any case."""
    return NEVER if longest_ms is None else now + longest_ms


class NewStep(NamedTuple):
    """A step to be made ready. `payload` is None when the step reads the job itself.

    It waits in turn with other steps of its `tenant` and `flow`: its batch's number, 0 without one. `due` is by when
    its sender wants it, absent where that is its deadline.

    A bridge forms the groups of one that is `sized`, so that they fit a model's time quantum. With `tried` its first
    attempt is over: its maker ran it at once.
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
    context: bytes | None = None  # what stages before it handed on and did not publish
    ordinal: int = 0  # how often the job has gone back to an earlier stage
    sized: bool = False
    read_bytes: int = 0  # what a worker reads of it: job, event and context
    tried: Tried | None = None
    prefix: int | None = None  # steps that agree in it have prompts that begin with the same
    due: int | None = None
    tenant: str = ""
    flow: int = 0

    @property
    def due_at(self) -> int:
        """Return the time by when it is wanted (ms); NEVER if nobody set one."""
        return self.deadline if self.due is None else self.due


def row(step: NewStep, now: int, claim_id: int | None = None) -> dict[str, Any]:
    """Return the row of a step that is ready at `now` (ms), or taken by this claim, or whose first attempt is over."""
    tried = step.tried
    if tried is None:
        state, ready_at = ("ready" if claim_id is None else "leased"), now
    else:
        state = tried.state
        if tried.delay_ms is not None:
            ready_at = now + tried.delay_ms
        else:
            ready_at = ready_at_latest(tried.began_at, tried.longest_ms)
    done = state == "done"
    return {
        "job_id": step.job_id,
        "stage": step.stage,
        "ordinal": step.ordinal,
        "state": state,
        "queue": step.queue,
        "group_key": step.group_key,
        "lane": step.lane,
        "rank": step.rank,
        "deadline": step.deadline,
        "due": step.due_at,
        "turn": step.turn,
        "tokens": step.tokens,
        "prefix": step.prefix,
        "attempts": 0 if state in ("ready", "parked", HELD) else 1,
        "ready_at": ready_at,
        "held_at": tried.began_at if tried and state == HELD else None,
        "started_at": tried.began_at if tried else None,
        "ended_at": now if done else None,
        "claim_id": claim_id,
        "event_type": step.event_type,
        "payload": None if done else step.payload,
        "context": None if done else step.context,
        "waits_for": tried.waits_for if tried else None,
        "read_bytes": step.read_bytes,
        "reason": tried.reason if tried else None,
    }
