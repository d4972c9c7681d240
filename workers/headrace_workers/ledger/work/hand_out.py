"""The steps that follow from others, written in the transaction that made them: ready, or handed out at once.

What is handed out here need not wait until a bridge has looked. It is no more than that would hand out: as many
groups as there is room for in their queue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection

from headrace_workers.ledger.sql.append import append
from headrace_workers.ledger.tables.core import STEPS
from headrace_workers.ledger.work.claim import Claim, new_claim
from headrace_workers.ledger.work.sizing import in_parts
from headrace_workers.ledger.work.steps import NewStep, row


@dataclass(frozen=True, slots=True)
class Room:
    """How many groups there is room for by queue and lane, under which name they go out, and for how long (ms)."""

    groups: Mapping[tuple[str, int], int]
    sender: str
    lease_ms: int


def hand_out(connection: Connection, steps: Sequence[NewStep], room: Room | None, now: int) -> tuple[Claim, ...]:
    """Write these new steps; what was handed out at once."""
    left = dict(room.groups) if room else {}
    rows = [row(step, now) for step in steps if step.tried]
    sent: list[Claim] = []
    untried = sorted((step for step in steps if not step.tried), key=_group)
    for (queue, lane, _stage, _key), members in groupby(untried, key=_group):
        for part in in_parts(list(members)):
            claim = None
            if room and left.get((queue, lane), 0) > 0:
                left[queue, lane] -= 1
                claim = _claim(connection, part, room)
                sent.append(claim)
            rows += [row(step, now, claim.id if claim else None) for step in part]
    append(connection, STEPS, rows)
    return tuple(sent)


def _group(step: NewStep) -> tuple[str, int, str, str]:
    return step.queue, step.lane, step.stage, step.group_key


def _claim(connection: Connection, steps: Sequence[NewStep], room: Room) -> Claim:
    first = steps[0]
    return new_claim(
        connection, queue=first.queue, stage=first.stage, group_key=first.group_key, lane=first.lane,
        tokens=[step.tokens for step in steps], full=False, sender=room.sender, lease_ms=room.lease_ms,
    )  # fmt: skip
