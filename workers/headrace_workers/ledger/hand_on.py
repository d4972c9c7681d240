"""The steps that follow from others, written in the transaction that made them: ready, or handed out at once.

What is handed out here need not wait until a bridge has looked. It is no more than the bridge would hand out: groups
that no model runs, as many as there is room for in their queue. What the worker that made them does itself, it keeps:
that is begun with its making, and needs no message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection

from headrace_workers.ledger.claim import Claim, new_claim
from headrace_workers.ledger.ingest import NewStep, step_row
from headrace_workers.ledger.sizing import in_parts
from headrace_workers.ledger.tables import STEPS

_NEW_STEPS = STEPS.insert()


@dataclass(frozen=True, slots=True)
class Onward:
    """How many groups there is room for by queue and lane, under which name they go out, and for how long (ms).

    `own` names the queues and stages that the sender does itself, at once.
    """

    room: Mapping[tuple[str, int], int]
    sender: str
    lease_ms: int
    own: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Kept:
    """A claim that the worker that made its steps has begun."""

    claim: Claim
    steps: tuple[NewStep, ...]


@dataclass(frozen=True, slots=True)
class HandedOn:
    """Claims that are to be sent, and those that the sender keeps."""

    sent: tuple[Claim, ...] = ()
    kept: tuple[Kept, ...] = ()


def hand_on(connection: Connection, steps: Sequence[NewStep], onward: Onward | None, now: int) -> HandedOn:
    """Write these new steps; what was handed out at once."""
    room = dict(onward.room) if onward else {}
    rows: list[dict[str, object]] = []
    sent, kept = [], []
    for (queue, lane, stage, _key), members in groupby(sorted(steps, key=_group), key=_group):
        own = onward is not None and (queue, stage) in onward.own
        for part in [tuple(members)] if own else in_parts(list(members)):
            claim = None
            if onward and own:
                claim = _claim(connection, part, onward, worker=onward.sender)
                kept.append(Kept(claim, part))
            elif onward and room.get((queue, lane), 0) > 0:
                room[queue, lane] -= 1
                claim = _claim(connection, part, onward)
                sent.append(claim)
            rows += [step_row(step, now, claim.id if claim else None) for step in part]
    if rows:
        connection.execute(_NEW_STEPS, rows)
    return HandedOn(tuple(sent), tuple(kept))


def _group(step: NewStep) -> tuple[str, int, str, str]:
    return step.queue, step.lane, step.stage, step.group_key


def _claim(connection: Connection, steps: Sequence[NewStep], onward: Onward, worker: str | None = None) -> Claim:
    first = steps[0]
    return new_claim(
        connection, queue=first.queue, stage=first.stage, group_key=first.group_key, lane=first.lane,
        tokens=[step.tokens for step in steps], full=False, sender=onward.sender, lease_ms=onward.lease_ms,
        worker=worker,
    )  # fmt: skip
