"""The fair order of tenants, and of the batches of one tenant: self-clocked fair queueing (Golestani 1994).

Work waits in a class: a queue, a lane, and an urgency, since the queue serves more urgent work first. Each class has a
clock of its own, the virtual time of the work in service there. In each class a tenant's work has a virtual time that
grows by the cost of its steps and never lags behind that clock: who was idle has no credit. Ordering by that number
alone serves tenants in turn, in proportion to tokens, without looking at the queue.

A tenant's batches, and its jobs that belong to none, are flows of their own, each with its own virtual time. Where a
tenant has several flows that wait, each step of theirs costs as many times more: together they get one tenant's share.

The clock moves to the turn of the most urgent step of each group that is handed out, and no further: the other steps
may come from far behind in the queue, and newcomers would be placed behind all that waits before those.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sqlalchemy import BigInteger, Connection, and_, bindparam, delete, literal_column, select, text

from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.sql.database import insert_many, many
from headrace_workers.core.sql.statements import run
from headrace_workers.core.tables import IS_READY, NEVER, STEPS, TURNS

CLOCK: Final = ""  # in place of a tenant: the row of TURNS that is a class's clock
_AT_ONCE: Final = 500
_MOST_FLOWS: Final = 1_000  # of one tenant in one class that are counted


class Class(NamedTuple):
    """Steps that wait together in one order. `urgency`: see `urgency_of`."""

    queue: str
    lane: int
    urgency: int


class _Flow(NamedTuple):
    """A tenant's work in a class that has turns of its own: a batch's, by its number, or the rest (0)."""

    queue: str
    lane: int
    urgency: int
    tenant: str
    flow: int


def urgency_of(rank: int, due: int) -> int:
    """Return the number of a step's urgency: its rank, and whether it is due at some time, which goes before what is
    not.
    """
    return 2 * rank + (due >= NEVER)


def in_turn(connection: Connection, steps: Sequence[NewStep]) -> list[NewStep]:
    """Give each of these steps its turn: the virtual time at which it would be done. One of no tenant stays as it is.

    Lock order: after all else, see `completion.py`.
    """
    costs: Counter[_Flow] = Counter()
    for step in steps:
        if step.tenant:
            costs[_flow_of(step)] += step.tokens
    if not costs:
        return list(steps)
    # In the order of their keys, so that two bridges cannot deadlock.
    rows = [{**flow._asdict(), "cost": cost} for flow, cost in sorted(costs.items())]
    turns: dict[_Flow, int] = {}
    weights: dict[_Flow, int] = {}
    for *key, end, weight in _run(connection, _charge(connection.dialect.name), rows):
        flow = _Flow._make(key)
        weights[flow], turns[flow] = weight, end - costs[flow] * weight
    placed = []
    for step in steps:
        if (flow := _flow_of(step)) in turns:
            turns[flow] += step.tokens * weights[flow]
            step = step._replace(turn=turns[flow])  # noqa: PLW2901
        placed.append(step)
    return placed


def advance(connection: Connection, turns: Mapping[Class, int]) -> None:
    """Move the clocks of these classes forward; never back."""
    if not turns:
        return
    rows = [{**row._asdict(), "tenant": CLOCK, "flow": 0, "turn": turn} for row, turn in sorted(turns.items())]
    _run(connection, _forward(connection.dialect.name), rows)


def forget(connection: Connection) -> bool:
    """Delete a bounded number of flows that a clock has overtaken, or of which nothing waits: such flows start anew.
    Return True if there may be more. Rows that others hold are left.

    Clocks stay: there is one for each queue, lane and urgency that work ever had.
    """
    waits = select(STEPS.c.job_id).where(
        IS_READY,
        STEPS.c.queue == TURNS.c.queue,
        STEPS.c.lane == TURNS.c.lane,
        STEPS.c.rank == TURNS.c.urgency // 2,
    )
    overtaken = TURNS.c.turn <= literal_column(_CLOCK_OF.format("turns"), BigInteger)
    old = (TURNS.c.tenant != CLOCK) & (overtaken | ~waits.correlate(TURNS).exists())
    rows = connection.execute(select(*_KEY).where(old).limit(_AT_ONCE).with_for_update(skip_locked=True)).all()
    mine = and_(*(column == bindparam(f"of_{column.name}") for column in _KEY))
    if rows:
        connection.execute(
            delete(TURNS).where(mine), [{f"of_{name}": item for name, item in row._mapping.items()} for row in rows]
        )
    return len(rows) == _AT_ONCE


def _run(connection: Connection, statement: Any, rows: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
    """Run a statement with all of these rows on PostgreSQL, with one after the other on SQLite."""
    dialect = connection.dialect.name
    if dialect == "postgresql":
        return run(connection, statement, many(dialect, rows))
    return [pair for row in rows for pair in run(connection, statement, row)]


def _flow_of(step: NewStep) -> _Flow:
    return _Flow(step.queue, step.lane, urgency_of(step.rank, step.due_at), step.tenant, step.flow)


_KEY = tuple(TURNS.c[name] for name in _Flow._fields)
_NAMES = tuple(column.name for column in _KEY)


_GIVEN: Final = {
    "postgresql": """
        SELECT * FROM unnest(
            CAST(:queue AS varchar[]), CAST(:lane AS smallint[]), CAST(:urgency AS smallint[]),
            CAST(:tenant AS varchar[]), CAST(:flow AS bigint[]), CAST(:cost AS bigint[])
        ) AS rows (queue, lane, urgency, tenant, flow, cost)
    """,
    "sqlite": """
        SELECT :queue AS queue, :lane AS lane, :urgency AS urgency, :tenant AS tenant, :flow AS flow, :cost AS cost
    """,
}
_CLOCK_OF: Final = f"""coalesce((
    SELECT clock.turn FROM turns AS clock
    WHERE clock.queue = {{0}}.queue AND clock.lane = {{0}}.lane AND clock.urgency = {{0}}.urgency
    AND clock.tenant = '{CLOCK}' AND clock.flow = 0
), 0)"""  # noqa: S608 - our own names
# Add to the virtual time of flows, which never lag behind the clock; where nothing waits they are level with it. A
# flow's weight is the number of its tenant's flows that are ahead of the clock, which are the waiting ones. (EXISTS
# would let PostgreSQL read all that is ready, to look into it five times.)
_CHARGE: Final = f"""
    WITH given AS ({{given}}),
    timed AS (SELECT given.*, {_CLOCK_OF.format("given")} AS now FROM given),
    weighed AS (
        SELECT timed.*, 1 + (
            SELECT count(*) FROM (
                SELECT 1 FROM turns AS other
                WHERE other.queue = timed.queue AND other.lane = timed.lane AND other.urgency = timed.urgency
                AND other.tenant = timed.tenant AND other.flow <> timed.flow AND other.turn > timed.now
                LIMIT {_MOST_FLOWS}
            ) AS waiting
        ) AS weight FROM timed
    )
    INSERT INTO turns (queue, lane, urgency, tenant, flow, weight, turn)
    SELECT queue, lane, urgency, tenant, flow, weight, now + cost * weight FROM weighed WHERE true
    ON CONFLICT (queue, lane, urgency, tenant, flow) DO UPDATE SET
        weight = excluded.weight,
        turn = excluded.turn + CASE WHEN turns.turn > {_CLOCK_OF.format("excluded")} AND (
            SELECT 1 FROM steps WHERE {IS_READY.text} AND steps.queue = excluded.queue AND steps.lane = excluded.lane
            LIMIT 1
        ) IS NOT NULL THEN turns.turn - {_CLOCK_OF.format("excluded")} ELSE 0 END
    RETURNING queue, lane, urgency, tenant, flow, turn, weight
"""  # noqa: S608 - our own names


@lru_cache
def _charge(dialect: str) -> Any:
    return text(_CHARGE.format(given=_GIVEN[dialect]))


@lru_cache
def _forward(dialect: str) -> Any:
    statement = insert_many(dialect, TURNS, [*_KEY, TURNS.c.turn], {})
    return statement.on_conflict_do_update(
        index_elements=list(_NAMES),
        set_={"turn": statement.excluded.turn},
        where=TURNS.c.turn < statement.excluded.turn,
    )
