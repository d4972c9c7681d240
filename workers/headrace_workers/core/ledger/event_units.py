"""Units of work that follow an event, such as a delivery, for each endpoint that subscribes to it.

A unit is a row of `jobs` with a subject, the job or batch that its event tells of, and one step: claims, leases,
retries and deadlines work as for jobs. It is no job: nobody sent it, its end is published to nobody and starts nothing,
and it does not count against the bound of open jobs. While it is open, its subject is kept.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, TypeAlias

from sqlalchemy import Connection, Table, func, literal, select

from headrace_schemas import Category, Topic
from headrace_schemas.topics import INBOUND
from headrace_workers.core.ledger.claims import Claim, QueueRoom, assign
from headrace_workers.core.ledger.dead_letters import Burial, bury
from headrace_workers.core.ledger.outbox import Outgoing
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.sql.database import bindparam_of, insert_many, many, now_ms, one_of
from headrace_workers.core.sql.statements import append, run
from headrace_workers.core.tables import IS_OPEN_UNIT, JOBS, NEVER

KIND = "unit"
_COLUMNS = ("id", "tenant", "subject", "endpoint")


class UnitContent(Protocol):
    """Content that a unit works on, where that is a row of a feature's table."""

    @property
    def table(self) -> Table:
        """Return the table of its row."""

    def row(self, now: int) -> dict[str, Any]:
        """Return its row, written at this time (ms)."""


@dataclass(frozen=True, slots=True)
class NewUnit:
    """A unit to be written. Its endpoint may have `most_open` open units: one more is dead from the beginning."""

    id: str
    subject: str
    tenant: str
    endpoint: str
    step: NewStep
    most_open: int
    content: UnitContent | None = None  # where it has a row of its own


@dataclass(frozen=True, slots=True)
class MadeUnits:
    """Number of new units, and the groups of them that were assigned at once."""

    count: int = 0
    assigned: tuple[Claim, ...] = ()


def make_units(connection: Connection, units: Sequence[NewUnit], room: QueueRoom | None = None) -> MadeUnits:
    """Write the new ones of these units, and assign as many as there is room for."""
    if not units:
        return MadeUnits()
    dialect = connection.dialect.name
    # In the order of their ids: another bridge may write the same at this moment.
    unique = {unit.id: unit for unit in sorted(units, key=lambda unit: unit.id)}
    rows = [{name: getattr(unit, name) for name in _COLUMNS} for unit in unique.values()]
    made: dict[str, int] = dict(run(connection, _new_units(dialect), many(dialect, rows)))
    if not made:
        return MadeUnits()
    now = max(made.values())
    written = [unit for unit in unique.values() if unit.id in made]
    steps = [unit.step._replace(job_id=unit.id, tenant=unit.tenant, due=NEVER) for unit in written]
    contents = [unit.content for unit in written if unit.content is not None]
    for table in dict.fromkeys(content.table for content in contents):
        append(connection, table, [content.row(now) for content in contents if content.table is table])
    assigned = assign(connection, steps, room, now)
    bury(connection, [_refused(unit) for unit in _beyond(connection, written)], now)
    return MadeUnits(len(written), assigned)


@lru_cache
def _new_units(dialect: str) -> Any:
    now = select(now_ms()).scalar_subquery()  # once, not for each row
    constants = {"kind": literal(KIND), "state": literal("active"), "payload": literal(b""), "accepted_at": now}
    statement = insert_many(dialect, JOBS, [JOBS.c[name] for name in _COLUMNS], constants)
    return statement.on_conflict_do_nothing(index_elements=["id"]).returning(JOBS.c.id, JOBS.c.accepted_at)


def _beyond(connection: Connection, written: Sequence[NewUnit]) -> list[NewUnit]:
    """Return the units, just written, that exceed what their endpoints may have open."""
    dialect = connection.dialect.name
    endpoints = sorted({unit.endpoint for unit in written})
    crowd: Counter[str] = Counter(dict(run(connection, _open(dialect), {"endpoints": endpoints})))
    crowd.subtract(unit.endpoint for unit in written)
    beyond = []
    for unit in written:
        crowd[unit.endpoint] += 1
        if crowd[unit.endpoint] > unit.most_open:
            beyond.append(unit)
    return beyond


@lru_cache
def _open(dialect: str) -> Any:
    endpoints = one_of(dialect, JOBS.c.endpoint, bindparam_of(dialect, JOBS.c.endpoint, name="endpoints"))
    return select(JOBS.c.endpoint, func.count()).where(IS_OPEN_UNIT, endpoints).group_by(JOBS.c.endpoint)


def _refused(unit: NewUnit) -> Burial:
    return Burial(
        id=unit.id,
        job_id=unit.id,
        tenant=unit.tenant,
        category=Category.TRANSIENT,
        reason=f"{unit.endpoint} has {unit.most_open} of these open: no more are kept for it until some have ended",
        stage=unit.step.stage,
        topic=Topic.RESULTS,
        value=b"",
        refers_to=unit.subject,
    )


# Returns the units that follow from these records, at a time (ms by the ledger's clock). Thread-safe.
UnitsOf: TypeAlias = Callable[[Sequence[Outgoing], int], Sequence[NewUnit]]


class Following:
    """The features that make units of work of published records. Where there are none, this costs nothing."""

    def __init__(self, followers: Sequence[UnitsOf] = ()) -> None:
        self._followers = followers

    def units(self, records: Sequence[Outgoing], now: int) -> list[NewUnit]:
        """Return the units that follow from these records, at `now` (ms by the ledger's clock).

        A refused record that is replayed goes back to its own topic as its sender wrote it. No unit follows from
        it: its headers are its sender's, and may name no type, or the type of a job's end.
        """
        records = [record for record in records if record.topic not in INBOUND]
        return [unit for units in self._followers for unit in units(records, now)]
