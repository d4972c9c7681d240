"""Steps as they are made: ready, leased at once, or tried already by the worker that made them; and the two lanes."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from headrace_workers.core.ledger.outcome import Dead, Done, Ended, Held, Retry, Settled, Wait
from headrace_workers.core.tables import NEVER

INTERACTIVE: Final = 0
BATCH: Final = 1


# The state of a step after its outcome. A dead one waits until its job is buried, in the same transaction.
STATES: Final[Mapping[type[Settled], str]] = {
    Done: "done",
    Ended: "done",
    Retry: "waiting",
    Wait: "parked",
    Held: "held",
    Dead: "waiting",
}


class Tried(NamedTuple):
    """The outcome of a step that is run in the transaction that makes it, and when it is ready again (`StepResult`)."""

    began_at: int  # ms by the ledger's clock
    outcome: Settled
    delay_ms: int | None = None


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


def row_of(step: NewStep, now: int, claim_id: int | None = None) -> dict[str, Any]:
    """Return the row of a step that is ready at `now` (ms), or taken by this claim, or whose first attempt is over."""
    tried = step.tried
    if tried is None:
        state, ready_at = ("ready" if claim_id is None else "leased"), now
    else:
        state = STATES[type(tried.outcome)]
        ready_at = ready_at_latest(tried.began_at, tried.delay_ms)
        if state == "waiting":
            ready_at = now + (tried.delay_ms or 0)
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
        "attempts": 0 if state in ("ready", "parked", "held") else 1,
        "ready_at": ready_at,
        "held_at": tried.began_at if tried and state == "held" else None,
        "started_at": tried.began_at if tried else None,
        "ended_at": now if done else None,
        "claim_id": claim_id,
        "event_type": step.event_type,
        "payload": None if done else step.payload,
        "context": None if done else step.context,
        "waits_for": tried.outcome.until.key
        if tried and isinstance(tried.outcome, Wait) and tried.outcome.until
        else None,
        "read_bytes": step.read_bytes,
        "reason": tried.outcome.reason if tried and not isinstance(tried.outcome, Done | Ended) else None,
    }
