"""Assignment of work: the most urgent group of steps that may share a call becomes a claim. Steps that follow from
others may be assigned in the transaction that makes them.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    Select,
    Update,
    bindparam,
    literal,
    select,
    text,
    union_all,
    update,
)

from headrace_workers.core.ledger.fair_queueing import Class, advance, in_turn, urgency_of
from headrace_workers.core.ledger.steps import NewStep, row_of
from headrace_workers.core.sql.database import bindparam_of, insert_many, locks_rows, many, now_ms, one_of
from headrace_workers.core.sql.statements import SingleStatements, append, rows_of, run
from headrace_workers.core.tables import BUDGETS, CLAIMS, IS_READY, STEPS

FIRST_BUDGET = 4_096  # tokens, before anything is known of a group
LEAST_BUDGET = 256
LARGEST_BUDGET = 1_000_000
LARGEST_BYTES = 16 * 1024**2  # of jobs and events that a worker reads at once
_BATCH = 16  # rows: a model's batches have so many, or a multiple
_AIM = 0.9  # of the quantum
_SLOWER, _FASTER = 0.25, 2.0  # bounds of one lesson


def within_budget(costs: Sequence[int], budget: int) -> int:
    """Return how many of these, in order, fit the budget: always at least the first."""
    spent = 0
    for count, cost in enumerate(costs):
        spent += cost
        if spent > budget and count > 0:
            return count
    return len(costs)


def in_parts(steps: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield these steps, in order, in as few parts as one worker may read at once."""
    while steps:
        size = within_budget([step.read_bytes for step in steps], LARGEST_BYTES)
        yield tuple(steps[:size])
        steps = steps[size:]


def alike(rows: Sequence[Any], limit: int, budget: int) -> list[Any]:
    """Return the first of these steps, which are in order of urgency, and the steps that go best with it: at most
    `limit`, and within the budget.

    A model forwards only the shortest prompt of a batch at once, and the rest of longer prompts step by step: prompts
    of like length made 1.2 times the tokens a second of mixed ones. So steps of one urgency lie in order of size, and a
    whole block of them is taken, which leaves no gap that a later group would straddle. A block has whole batches,
    since a step of a batch costs much the same for one row as for sixteen.
    """
    if len(rows) <= limit and sum(row.tokens for row in rows) <= budget:
        return list(rows)
    first, *others = rows
    peers = [row for row in others if (row.rank, row.due) == (first.rank, first.due)]
    by_size = sorted([first, *peers], key=lambda row: row.tokens)
    place = by_size.index(first)
    for count in range(min(limit, len(by_size)) // _BATCH * _BATCH, 0, -_BATCH):
        begin = min(place - place % count, len(by_size) - count)
        block = by_size[begin : begin + count]
        if sum(row.tokens for row in block) <= budget:
            return [first, *(row for row in block if row is not first)]
    peers.sort(key=lambda row: abs(row.tokens - first.tokens))
    nearest = [first, *peers, *others[len(peers) :]][:limit]
    return nearest[: within_budget([row.tokens for row in nearest], budget)]


def of_one_beginning(rows: Sequence[Any]) -> Sequence[Any]:
    """Return the steps that are as urgent as the first and whose prompts begin with the same text or share no
    beginning, if they make a batch. Else return all: a model runs the rest together. `steps` are in order of urgency.
    """
    first = rows[0]
    one = (first.rank, first.due, first.prefix)
    same = [row for row in rows if (row.rank, row.due, row.prefix) == one]
    return same if len(same) >= _BATCH else rows


def next_budget(tokens: int, seconds: float, quantum: float) -> int:
    """Return the budget of the next group, learnt from a group of so many tokens that took `seconds`."""
    factor = min(_FASTER, max(_SLOWER, _AIM * quantum / max(seconds, 1e-3)))
    return int(min(LARGEST_BUDGET, max(LEAST_BUDGET, tokens * factor)))


_ORDER = (STEPS.c.rank, STEPS.c.due, STEPS.c.turn, STEPS.c.job_id)


@dataclass(frozen=True, slots=True)
class Claim:
    """A group that was assigned to a worker. `id` is the fencing token: its holder may complete these steps."""

    id: int
    queue: str
    stage: str
    lane: int
    size: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """Number of groups that are wanted of a queue and lane, and the largest number of steps in a group.

    A group's members are chosen among the first `window` of its steps: see `alike`. One that is not full waits for
    company until its first step has been ready for `linger_ms`.
    """

    queue: str
    lane: int
    groups: int
    limit: int
    window: int = 0
    linger_ms: int = 0


@dataclass(frozen=True, slots=True)
class Claimed:
    """Claims that were made, and the ms until the first group that waits for company is assigned without."""

    claims: tuple[Claim, ...] = ()
    lingers_ms: int | None = None


class Head(NamedTuple):
    """The most urgent step's group, of the queue and lane wanted at this position, and its learnt budget."""

    position: int
    group_key: str
    tokens: int | None


class _Member(NamedTuple):
    """A step that may be claimed, with what it costs and its place in the order. `waited`: ms since it is ready."""

    job_id: str
    stage: str
    ordinal: int
    tokens: int
    read_bytes: int
    turn: int
    rank: int
    due: int
    prefix: int | None
    waited: int


def claim(
    connection: Connection, wanted: Sequence[Wanted], found: Sequence[Head], *, lease_ms: int, sender: str
) -> Claimed:
    """Claim the most urgent groups of each wanted queue and lane, as many as wanted, in one pass.

    `found` is what `heads` saw a moment ago; groups that others have claimed since are skipped. Groups of one step, as
    those of remote models are, take as many statements for many as for one on PostgreSQL.
    """
    claims: list[Claim] = []
    lingering: list[int] = []
    turns: dict[Class, int] = {}
    for head in found:
        want = wanted[head.position]
        if want.limit == 1 and locks_rows(connection):
            for single in _take_singly(connection, want, lease_ms=lease_ms, sender=sender):
                claims.append(single.claim)
                turns[single.where] = max(single.turn, turns.get(single.where, 0))
            continue
        group_key, budget = head.group_key, head.tokens
        for left in reversed(range(want.groups)):
            taken = _take(connection, want, group_key, budget or FIRST_BUDGET, lease_ms=lease_ms, sender=sender)
            if taken.claim is None:
                lingering += [taken.lingers_ms] if taken.lingers_ms else []
                break
            claims.append(taken.claim)
            if taken.where is not None:
                turns[taken.where] = max(taken.turn, turns.get(taken.where, 0))
            following = heads(connection, [want]) if left else []
            if not following:
                break
            group_key, budget = following[0].group_key, following[0].tokens
    advance(connection, turns)
    return Claimed(tuple(claims), min(lingering, default=None))


def heads(where: Connection | SingleStatements, wanted: Sequence[Wanted]) -> Sequence[Head]:
    """Return the group of the most urgent step of each wanted queue and lane that has one, with its budget."""
    if not wanted:
        return ()
    parameters: dict[str, object] = {}
    for position, want in enumerate(wanted):
        parameters |= {f"queue_{position}": want.queue, f"lane_{position}": want.lane}
    return [Head._make(row) for row in rows_of(where, _heads_of(len(wanted)), parameters)]


# Building a statement costs as much as running it, so the statements of the hot path are built once.
@lru_cache
def _heads_of(count: int) -> Select[Any]:
    heads = [
        select(literal(position).label("position"), STEPS.c.group_key)
        .where(IS_READY, STEPS.c.queue == bindparam(f"queue_{position}"), STEPS.c.lane == bindparam(f"lane_{position}"))
        .order_by(*_ORDER)
        .limit(1)
        .subquery()
        for position in range(count)
    ]
    found = union_all(*(select(head) for head in heads)).subquery()
    return select(found.c.position, found.c.group_key, BUDGETS.c.tokens).select_from(
        found.outerjoin(BUDGETS, BUDGETS.c.group_key == found.c.group_key)
    )


_MEMBERS = (
    select(
        STEPS.c.job_id,
        STEPS.c.stage,
        STEPS.c.ordinal,
        STEPS.c.tokens,
        STEPS.c.read_bytes,
        STEPS.c.turn,
        STEPS.c.rank,
        STEPS.c.due,
        STEPS.c.prefix,
        (now_ms() - STEPS.c.ready_at).label("waited"),
    )
    .where(
        IS_READY,
        STEPS.c.queue == bindparam("queue"),
        STEPS.c.lane == bindparam("lane"),
        STEPS.c.group_key == bindparam("group"),
    )
    .order_by(*_ORDER)
    .limit(bindparam("most", type_=Integer))
)
_LOCKED_MEMBERS = _MEMBERS.with_for_update(skip_locked=True)
_SINGLES = (
    select(*(column for column in _MEMBERS.selected_columns), STEPS.c.group_key)
    .where(IS_READY, STEPS.c.queue == bindparam("queue"), STEPS.c.lane == bindparam("lane"))
    .order_by(*_ORDER)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True)
)
_ID_BITS = 63  # what a signed integer of both databases holds
_CLAIMED = {name: bindparam(name, type_=CLAIMS.c[name].type, required=True) for name in (
    "id", "queue", "stage", "group_key", "lane", "size", "tokens", "full", "sender",
)} | {
    "claimed_at": now_ms(),
    "renewed_at": now_ms(),
    "lease_until": now_ms() + bindparam("lease_ms", type_=BigInteger, required=True),
}  # fmt: skip
_OTHERS = select(STEPS.c.job_id).where(IS_READY, STEPS.c.queue == _CLAIMED["queue"], STEPS.c.lane == _CLAIMED["lane"])
_NEW_CLAIM = CLAIMS.insert().values(_CLAIMED).returning(CLAIMS.c.id)
_NEW_CLAIM_OF_NONE = (
    CLAIMS.insert().from_select([*_CLAIMED], select(*_CLAIMED.values()).where(~_OTHERS.exists())).returning(CLAIMS.c.id)
)


@lru_cache
def _new_claims() -> Any:
    given = [CLAIMS.c[name] for name in _CLAIMED if name not in ("claimed_at", "renewed_at", "lease_until")]
    times = {name: _CLAIMED[name] for name in ("claimed_at", "renewed_at", "lease_until")}
    return insert_many("postgresql", CLAIMS, given, times)


_LEASE_SINGLY = text("""
    UPDATE steps SET state = 'leased', claim_id = given.claim, attempts = steps.attempts + 1
    FROM unnest(CAST(:job AS varchar[]), CAST(:at AS varchar[]), CAST(:round AS integer[]), CAST(:claim AS bigint[]))
        AS given (job, at, round, claim)
    WHERE steps.job_id = given.job AND steps.stage = given.at AND steps.ordinal = given.round
""")


@lru_cache
def _lease(dialect: str) -> Update:
    return (
        update(STEPS)
        .where(
            one_of(dialect, STEPS.c.job_id, bindparam_of(dialect, STEPS.c.job_id, name="jobs")),
            STEPS.c.stage == bindparam("at"),
            # Not "that are ready", as they are: that would tempt the planner to read the index of all that is ready.
            STEPS.c.ordinal == bindparam("round"),
        )
        .values(state="leased", claim_id=bindparam("claim"), attempts=STEPS.c.attempts + 1)
    )


@lru_cache
def _lock(dialect: str) -> Select[Any]:
    jobs = one_of(dialect, STEPS.c.job_id, bindparam_of(dialect, STEPS.c.job_id, name="jobs"))
    query = select(STEPS.c.job_id).where(jobs, STEPS.c.stage == bindparam("at"), STEPS.c.state == "ready")
    return query.with_for_update(skip_locked=True)


class _Taken(NamedTuple):
    """A group that was claimed, with class and turn of its most urgent step; or in how many ms it will go, when it
    waits for company.
    """

    claim: Claim | None = None
    where: Class | None = None
    turn: int = 0
    lingers_ms: int = 0


def _take(connection: Connection, want: Wanted, group_key: str, budget: int, *, lease_ms: int, sender: str) -> _Taken:
    """Claim one group. Nothing is taken when it waits for company, or another bridge is claiming it at this moment."""
    rows = _members(connection, want, group_key)
    if not rows:
        return _Taken()
    if lingers_ms := _lingers(rows, want, budget):
        return _Taken(lingers_ms=lingers_ms)
    if want.window > want.limit:
        rows = of_one_beginning(rows)
        group = alike(rows, want.limit, budget)
    else:
        group = list(rows[: within_budget([row.tokens for row in rows], budget)])
    within_bytes = within_budget([row.read_bytes for row in group], LARGEST_BYTES)
    full = within_bytes >= len(group) < min(want.limit, len(rows))
    rows = group[:within_bytes]
    if want.window > want.limit:
        rows = _locked(connection, rows)
        if not rows:
            return _Taken()
    taken = new_claim(
        connection, queue=want.queue, stage=rows[0].stage, group_key=group_key, lane=want.lane,
        tokens=[row.tokens for row in rows], full=full, sender=sender, lease_ms=lease_ms,
    )  # fmt: skip
    assert taken is not None  # noqa: S101 - it may overtake
    for ordinal in sorted({row.ordinal for row in rows}):
        jobs = [row.job_id for row in rows if row.ordinal == ordinal]
        which = {"jobs": jobs, "at": taken.stage, "round": ordinal, "claim": taken.id}
        run(connection, _lease(connection.dialect.name), which)
    first = min(rows, key=lambda row: (row.rank, row.due, row.turn))
    return _Taken(taken, Class(want.queue, want.lane, urgency_of(first.rank, first.due)), first.turn)


class _Single(NamedTuple):
    """The claim of one step, with the step's class and turn."""

    claim: Claim
    where: Class
    turn: int


def _take_singly(connection: Connection, want: Wanted, *, lease_ms: int, sender: str) -> list[_Single]:
    """Claim the most urgent steps, one a claim, all by three statements. They share no call, so their groups do not
    matter. On PostgreSQL.
    """
    found = run(connection, _SINGLES, {"queue": want.queue, "lane": want.lane, "most": want.groups})
    if not found:
        return []
    steps = [_Member._make(row) for *row, _ in found]
    rows = [
        {
            "id": secrets.randbits(_ID_BITS),
            "queue": want.queue,
            "stage": step.stage,
            "group_key": group_key,
            "lane": want.lane,
            "size": 1,
            "tokens": step.tokens,
            "full": False,
            "sender": sender,
        }
        for step, (*_, group_key) in zip(steps, found, strict=True)
    ]
    run(connection, _new_claims(), many("postgresql", rows) | {"lease_ms": lease_ms})
    leased = [
        {"job": step.job_id, "at": step.stage, "round": step.ordinal, "claim": row["id"]}
        for step, row in zip(steps, rows, strict=True)
    ]
    run(connection, _LEASE_SINGLY, many("postgresql", leased))
    return [
        _Single(
            Claim(row["id"], want.queue, step.stage, want.lane, 1),
            Class(want.queue, want.lane, urgency_of(step.rank, step.due)),
            step.turn,
        )
        for step, row in zip(steps, rows, strict=True)
    ]


def _lingers(rows: Sequence[_Member], want: Wanted, budget: int) -> int:
    """Return how many ms longer a group that could be larger waits, while it is fresh. A clock that went back lets it
    go.
    """
    full = (
        len(rows) >= want.limit
        or sum(row.tokens for row in rows) >= budget
        or sum(row.read_bytes for row in rows) >= LARGEST_BYTES
    )
    waited = max(row.waited for row in rows)
    return want.linger_ms - waited if not full and 0 <= waited < want.linger_ms else 0


def new_claim(
    connection: Connection,
    *,
    queue: str,
    stage: str,
    group_key: str,
    lane: int,
    tokens: Sequence[int],
    full: bool,
    sender: str,
    lease_ms: int,
    overtakes: bool = True,
) -> Claim | None:
    """Write a claim for a group of steps that cost so many tokens each; the steps are the caller's to lease.

    One that overtakes nothing is not written where steps are ready in its queue and lane: then None.
    """
    size = len(tokens)
    made = run(
        connection,
        _NEW_CLAIM if overtakes else _NEW_CLAIM_OF_NONE,
        {
            # A ledger restored from a backup would count up to the same numbers again, and a worker that still holds
            # one of them would complete another's claim.
            "id": secrets.randbits(_ID_BITS),
            "queue": queue,
            "stage": stage,
            "group_key": group_key,
            "lane": lane,
            "size": size,
            "tokens": sum(tokens),
            "full": full,
            "sender": sender,
            "lease_ms": lease_ms,
        },
    )
    return Claim(made[0][0], queue, stage, lane, size) if made else None


def _members(connection: Connection, want: Wanted, group_key: str) -> Sequence[_Member]:
    """Return the first steps of a group, locked where all of them will be taken."""
    windowed = want.window > want.limit
    statement = _LOCKED_MEMBERS if locks_rows(connection) and not windowed else _MEMBERS
    which = {"queue": want.queue, "lane": want.lane, "group": group_key, "most": max(want.limit, want.window)}
    return [_Member._make(row) for row in run(connection, statement, which)]


def _locked(connection: Connection, rows: Sequence[_Member]) -> Sequence[_Member]:
    """Return the steps that nobody else is claiming at this moment."""
    if not locks_rows(connection):
        return rows
    jobs = [row.job_id for row in rows]
    locked = run(connection, _lock(connection.dialect.name), {"jobs": jobs, "at": rows[0].stage})
    free = {job_id for (job_id,) in locked}
    return [row for row in rows if row.job_id in free]


@dataclass(frozen=True, slots=True)
class QueueRoom:
    """Number of groups that each queue and lane has room for, the name under which they are assigned, and the lease
    (ms).
    """

    groups: Mapping[tuple[str, int], int]
    sender: str
    lease_ms: int


def put_tried(connection: Connection, steps: Sequence[NewStep], now: int) -> None:
    """Write the new steps whose first attempt is over. They take no turn: work that has begun goes first."""
    append(connection, STEPS, [row_of(step, now) for step in steps if step.tried])


def assign(connection: Connection, steps: Sequence[NewStep], room: QueueRoom | None, now: int) -> tuple[Claim, ...]:
    """Write the new steps that nobody has tried, and return the claims that were assigned at once. The others wait in
    turn. No step overtakes the steps that wait in its queue and lane. Lock order: after all else, since turns are, see
    `completion.py`.
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
                rows += [row_of(step, now, claim.id) for step in part]
    rows += [row_of(step, now) for step in in_turn(connection, [step for step in untried if step.job_id not in out])]
    append(connection, STEPS, rows)
    return tuple(sent)


def _group(step: NewStep) -> tuple[str, int, str, str]:
    return step.queue, step.lane, step.stage, step.group_key


def _claim(connection: Connection, steps: Sequence[NewStep], room: QueueRoom) -> Claim | None:
    """Claim these steps, which are not written yet; return None if others wait in their queue and lane."""
    first = steps[0]
    return new_claim(
        connection, queue=first.queue, stage=first.stage, group_key=first.group_key, lane=first.lane,
        tokens=[step.tokens for step in steps], full=False, sender=room.sender, lease_ms=room.lease_ms,
        overtakes=False,
    )  # fmt: skip
