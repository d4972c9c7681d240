"""The fair order of tenants: self-clocked fair queueing (Golestani 1994).

Each tenant has a virtual time that grows by the cost of its jobs, and never lags behind the virtual time of the work
in service. Ordering by that number alone serves the tenants in turn, in proportion to tokens, without looking at the
queue.
"""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, case, literal_column

from headrace_workers.ledger.sql.database import insert
from headrace_workers.ledger.sql.direct import run
from headrace_workers.ledger.tables.core import TURNS
from headrace_workers.ledger.work.steps import NewStep

CLOCK = ""  # the row of TURNS that is no tenant: the virtual time of the work in service

# The turn of CLOCK, as text: a statement for many rows may have no parameter that is not one of a row's.
_SERVICE = literal_column("coalesce((SELECT s.turn FROM turns AS s WHERE s.tenant = ''), 0)", BigInteger)


def in_turn(connection: Connection, steps: Sequence[tuple[str, NewStep]]) -> list[NewStep]:
    """These tenants' steps, each with its virtual finishing time."""
    costs: Counter[str] = Counter()
    for tenant, step in steps:
        costs[tenant] += step.tokens
    if not costs:
        return []
    # In the order of their names, so that two bridges cannot deadlock.
    rows = [{"name": tenant, "cost": cost} for tenant, cost in sorted(costs.items())]
    ends = run(connection, _charge(connection.dialect.name), rows)
    turns = {tenant: turn - costs[tenant] for tenant, turn in ends}
    placed = []
    for tenant, step in steps:
        turns[tenant] += step.tokens
        placed.append(step._replace(turn=turns[tenant]))
    return placed


def advance(connection: Connection, turn: int) -> None:
    """Move the virtual time of the work in service forward; never back."""
    run(connection, _forward(connection.dialect.name), {"now": turn})


@lru_cache
def _charge(dialect: str) -> Any:
    """Add to a tenant's virtual time, which never lags behind the clock."""
    statement = insert(dialect, TURNS).values(
        tenant=bindparam("name"), turn=_SERVICE + bindparam("cost", type_=BigInteger)
    )
    ahead = case((TURNS.c.turn > _SERVICE, TURNS.c.turn - _SERVICE), else_=literal_column("0"))
    return statement.on_conflict_do_update(
        index_elements=["tenant"], set_={"turn": statement.excluded.turn + ahead}
    ).returning(TURNS.c.tenant, TURNS.c.turn)


@lru_cache
def _forward(dialect: str) -> Any:
    statement = insert(dialect, TURNS).values(tenant=CLOCK, turn=bindparam("now"))
    return statement.on_conflict_do_update(
        index_elements=["tenant"],
        set_={"turn": statement.excluded.turn},
        where=TURNS.c.turn < statement.excluded.turn,
    )
