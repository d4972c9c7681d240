"""Steps that follow from others, written in the transaction that made them: ready, or assigned at once.

A step that is assigned here need not wait until a bridge has looked. As a bridge would, it assigns only as many groups
as their queue has room for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection

from headrace_workers.core.ledger.claim import Claim, new_claim
from headrace_workers.core.ledger.fair_queueing import in_turn
from headrace_workers.core.ledger.sizing import in_parts
from headrace_workers.core.ledger.steps import NewStep, row
from headrace_workers.core.sql.append import append
from headrace_workers.core.tables import STEPS


@dataclass(frozen=True, slots=True)
class Room:
    """Number of groups that each queue and lane has room for, the name under which they are assigned, and the lease
    (ms).
    """

    groups: Mapping[tuple[str, int], int]
    sender: str
    lease_ms: int


def put_tried(connection: Connection, steps: Sequence[NewStep], now: int) -> None:
    """Write the new steps whose first attempt is over. They take no turn: work that has begun goes first."""
    append(connection, STEPS, [row(step, now) for step in steps if step.tried])


def assign(connection: Connection, steps: Sequence[NewStep], room: Room | None, now: int) -> tuple[Claim, ...]:
    """Write the new steps that nobody has tried, and return the claims that were assigned at once. The others wait in
    turn. No step overtakes the steps that wait in its queue and lane. Lock order: behind all else, since turns are, see
    `complete.py`.
    """
    left = dict(room.groups) if room else {}
    sent: list[Claim] = []
    rows = []
    out: set[str] = set()  # the jobs of the steps that were assigned
    untried = [step for step in steps if not step.tried]
    for (queue, lane, _stage, _key), members in groupby(sorted(untried, key=_group), key=_group):
        for part in in_parts(list(members)):
            if room is None or left.get((queue, lane), 0) <= 0:
                break
            claim = _claim(connection, part, room)
            left[queue, lane] = left[queue, lane] - 1 if claim else 0
            if claim is not None:
                sent.append(claim)
                out.update(step.job_id for step in part)
                rows += [row(step, now, claim.id) for step in part]
    rows += [row(step, now) for step in in_turn(connection, [step for step in untried if step.job_id not in out])]
    append(connection, STEPS, rows)
    return tuple(sent)


def _group(step: NewStep) -> tuple[str, int, str, str]:
    return step.queue, step.lane, step.stage, step.group_key


def _claim(connection: Connection, steps: Sequence[NewStep], room: Room) -> Claim | None:
    """Claim these steps, which are not written yet; return None if others wait in their queue and lane."""
    first = steps[0]
    return new_claim(
        connection, queue=first.queue, stage=first.stage, group_key=first.group_key, lane=first.lane,
        tokens=[step.tokens for step in steps], full=False, sender=room.sender, lease_ms=room.lease_ms,
        overtakes=False,
    )  # fmt: skip
