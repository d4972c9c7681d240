"""The quotas of tenants and their keys, in tokens or money: how much of each is used and reserved, and who is told.

A transaction that changes quotas locks all those of the tenants concerned first, in the order of their keys.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, Connection, bindparam, case, delete, func, select, update

from headrace_schemas.budget import BudgetReached
from headrace_workers.core.identity import budget_event_id
from headrace_workers.core.ledger.outbox import Outgoing, outgoing
from headrace_workers.core.ledger.outbox import put as put_out
from headrace_workers.core.sql.database import among, bindparam_of, clock, insert, now_ms, one_of
from headrace_workers.core.sql.statements import run
from headrace_workers.features.access.feature import BUDGETS_REACHED
from headrace_workers.features.access.tables import QUOTAS, RESERVATIONS

Period = Literal["day", "month", "ever"]
Unit = Literal["tokens", "money"]

TOLD_OF: Final = (50, 80, 100)  # percent of a budget


class QuotaKey(NamedTuple):
    """The key of a quota."""

    tenant: str
    key_id: str
    unit: str
    period: str


_COLUMNS: Final = (*QuotaKey._fields, "most", "used", "reserved", "began", "told")


@dataclass(frozen=True, slots=True)
class Quota:
    """A quota of a tenant, or of one of its keys, in tokens or micro-units of money. `used` is of the period that it is
    now, `reserved` for jobs that have not ended. The period lasts from `began` to `ends` (ms since 1970), which is None
    for one that never ends. `told` is the percentage that was last told of in this period.
    """

    tenant: str
    key_id: str
    unit: str
    period: str
    most: int
    used: int
    reserved: int
    began: int
    ends: int | None
    told: int = 0

    @property
    def key(self) -> QuotaKey:
        """Return its key."""
        return QuotaKey(self.tenant, self.key_id, self.unit, self.period)

    @property
    def left(self) -> int:
        """Return what may still be reserved."""
        return max(0, self.most - self.used - self.reserved)

    def holds_for(self, key_id: str) -> bool:
        """Return True if it is for jobs of this key."""
        return self.key_id in ("", key_id)


def tell_exhausted(
    connection: Connection, quotas: Mapping[str, Sequence[Quota]], exhausted: Collection[QuotaKey]
) -> None:
    """Publish that these budgets, which are locked, hold no further call."""
    gone = [quota for theirs in quotas.values() for quota in theirs if quota.unit == "money" and quota.key in exhausted]
    if gone:
        _tell(connection, gone, exhausted)


def put(
    connection: Connection, tenant: str, most: int, period: Period, *, unit: Unit = "tokens", key_id: str = ""
) -> None:
    """Set a quota of a tenant, or of one of its keys. Earlier use in this period still counts, and reservations of
    running jobs count from the start.
    """
    locked(connection, {tenant})
    theirs = RESERVATIONS.c.tenant == tenant
    if key_id:
        theirs &= RESERVATIONS.c.key_id == key_id
    if unit == "tokens":  # of these there is one, whose period may change
        before = (QUOTAS.c.tenant == tenant) & (QUOTAS.c.key_id == key_id) & (QUOTAS.c.unit == unit)
        connection.execute(update(QUOTAS).where(before).values(period=period))
    column = RESERVATIONS.c.money if unit == "money" else RESERVATIONS.c.tokens
    reserved = int(connection.execute(select(func.coalesce(func.sum(column), 0)).where(theirs)).scalar_one())
    row = {
        "tenant": tenant, "key_id": key_id, "unit": unit, "period": period, "most": most, "began": clock(connection),
        "used": 0, "reserved": reserved, "told": 0,
    }  # fmt: skip
    statement = insert(connection, QUOTAS).values(row)
    changes = {"most": most, "told": 0}
    connection.execute(statement.on_conflict_do_update(index_elements=list(QuotaKey._fields), set_=changes))


def remove(
    connection: Connection, tenant: str, *, unit: Unit = "tokens", key_id: str = "", period: Period | None = None
) -> bool:
    """Remove the quotas of a tenant, or of one of its keys, in this unit: of one period, or all; return whether there
    was any.
    """
    locked(connection, {tenant})
    which = (QUOTAS.c.tenant == tenant) & (QUOTAS.c.unit == unit) & (QUOTAS.c.key_id == key_id)
    if period is not None:
        which &= QUOTAS.c.period == period
    gone = connection.execute(delete(QUOTAS).where(which)).rowcount
    if not connection.execute(select(QUOTAS.c.tenant).where(QUOTAS.c.tenant == tenant).limit(1)).first():
        connection.execute(delete(RESERVATIONS).where(RESERVATIONS.c.tenant == tenant))
    return bool(gone)


def quotas(
    connection: Connection,
    tenants: Collection[str] | None = None,
    *,
    unit: Unit | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> list[Quota]:
    """Return so many quotas at most, of all tenants or of these, in the order of their keys, those of tenants that come
    after `after`. With `unit` only those in this unit.
    """
    query = select(*(QUOTAS.c[name] for name in _COLUMNS)).order_by(*(QUOTAS.c[name] for name in QuotaKey._fields))
    query = query.limit(limit)
    if unit is not None:
        query = query.where(QUOTAS.c.unit == unit)
    if after is not None:
        query = query.where(QUOTAS.c.tenant > after)
    if tenants is not None:
        query = query.where(among(connection, QUOTAS.c.tenant, sorted(tenants)))
    rows = connection.execute(query).all()
    now = clock(connection) if rows else 0
    return [_now(row, now) for row in rows]


def locked(connection: Connection, tenants: Collection[str]) -> dict[str, list[Quota]]:
    """Lock the quotas of these tenants, which nobody else changes until this transaction ends; return them."""
    return _by_tenant(run(connection, _lock(connection.dialect.name), {"tenants": sorted(tenants)}))


def locked_for(connection: Connection, job_ids: Sequence[str]) -> dict[str, list[Quota]]:
    """Lock the quotas of the tenants for whose jobs, these, something is reserved; return them."""
    return _by_tenant(run(connection, _lock_for(connection.dialect.name), {"jobs": list(job_ids)}))


def _by_tenant(rows: Iterable[Any]) -> dict[str, list[Quota]]:
    found: dict[str, list[Quota]] = {}
    for *stored, now in rows:
        quota = _now(stored, now)
        found.setdefault(quota.tenant, []).append(quota)
    return found


@lru_cache
def _lock(dialect: str) -> Any:
    """Lock the rows of these tenants. Mostly there is none, and each job that is taken in asks."""
    return _locking(dialect, one_of(dialect, QUOTAS.c.tenant, bindparam_of(dialect, QUOTAS.c.tenant, name="tenants")))


@lru_cache
def _lock_for(dialect: str) -> Any:
    jobs = bindparam_of(dialect, RESERVATIONS.c.job_id, name="jobs")
    tenants = select(RESERVATIONS.c.tenant).where(one_of(dialect, RESERVATIONS.c.job_id, jobs))
    return _locking(dialect, QUOTAS.c.tenant.in_(tenants))


def _locking(dialect: str, which: ColumnElement[bool]) -> Any:
    query = select(*(QUOTAS.c[name] for name in _COLUMNS), now_ms()).where(which)
    query = query.order_by(*(QUOTAS.c[name] for name in QuotaKey._fields))
    return query.with_for_update(of=QUOTAS) if dialect == "postgresql" else query


# What was used, and told of, in an earlier period counts no more.
_IS_OF_PERIOD: Final = QUOTAS.c.began >= bindparam("since", type_=BigInteger)
_CHANGE: Final = (
    update(QUOTAS)
    .where(*(QUOTAS.c[name] == bindparam(f"its_{name}") for name in QuotaKey._fields))
    .values(
        reserved=QUOTAS.c.reserved + bindparam("more", type_=BigInteger),
        used=case((_IS_OF_PERIOD, QUOTAS.c.used), else_=0) + bindparam("spent", type_=BigInteger),
        told=case((_IS_OF_PERIOD, QUOTAS.c.told), else_=0),
        began=case((_IS_OF_PERIOD, QUOTAS.c.began), else_=bindparam("since", type_=BigInteger)),
    )
    .returning(QUOTAS.c.used, QUOTAS.c.reserved, QUOTAS.c.told)
)


def change(
    connection: Connection, quotas: Mapping[str, Sequence[Quota]], changes: Mapping[QuotaKey, tuple[int, int]]
) -> None:
    """Reserve so much more (or less), and count so much as used, of each of these quotas, which are locked. The rows as
    they were read under the lock may be older than the changes of this transaction.
    """
    grown = []
    for quota in (item for tenant in sorted(quotas) for item in quotas[tenant] if item.key in changes):
        reserved, used = changes[quota.key]
        values = {f"its_{name}": getattr(quota, name) for name in QuotaKey._fields}
        rows = run(connection, _CHANGE, values | {"more": reserved, "spent": used, "since": quota.began})
        if rows and used and quota.unit == "money":
            grown.append(replace(quota, used=rows[0][0], reserved=rows[0][1], told=rows[0][2]))
    _tell(connection, grown)


_GIVE_BACK: Final = (
    update(QUOTAS)
    .where(
        *(QUOTAS.c[name] == bindparam(f"its_{name}") for name in QuotaKey._fields), QUOTAS.c.began <= bindparam("at")
    )
    .values(used=QUOTAS.c.used - bindparam("less", type_=BigInteger))
)


def give_back(connection: Connection, quota: Quota, amount: int, used_at: int) -> None:
    """Count so much less as used of a quota, which is locked, if it counted that at this time (ms): it was set before,
    and its period has not ended.
    """
    if used_at >= quota.began:
        values = {f"its_{name}": getattr(quota, name) for name in QuotaKey._fields}
        run(connection, _GIVE_BACK, values | {"less": amount, "at": used_at})


def _tell(connection: Connection, quotas: Sequence[Quota], exhausted: Collection[QuotaKey] = ()) -> None:
    """Publish how much of these budgets is spent, where that has reached a percentage that was not told of."""
    reached = [
        (quota, percent) for quota in quotas if (percent := _percent(quota, quota.key in exhausted)) > quota.told
    ]
    if not reached:
        return
    now = clock(connection)
    told: dict[str, BudgetReached] = {}
    for quota, percent in reached:
        which = [QUOTAS.c[name] == getattr(quota.key, name) for name in QuotaKey._fields]
        began = case((QUOTAS.c.began >= quota.began, QUOTAS.c.began), else_=quota.began)
        connection.execute(update(QUOTAS).where(*which).values(told=percent, used=quota.used, began=began))
        ends_at = None if quota.ends is None else datetime.fromtimestamp(quota.ends / 1000, UTC)
        event_id = budget_event_id(*quota.key, quota.ends or 0, percent, quota.most)
        told[event_id] = BudgetReached(
            tenant=quota.tenant, key_id=quota.key_id or None, period=quota.period, percent=percent, most=quota.most,
            spent=quota.used, reserved=max(0, quota.reserved), ends_at=ends_at,
        )  # fmt: skip
    put_out(connection, [_record(event_id, event, now) for event_id, event in told.items()])
    for tell in BUDGETS_REACHED.values():
        tell(connection, told)


def _record(event_id: str, event: BudgetReached, now: int) -> Outgoing:
    return outgoing(
        event, event_id=event_id, job_id=None, traceparent=None, correlationid=None, at_ms=now, key=event.tenant
    )


def _percent(quota: Quota, exhausted: bool) -> int:
    """Return the highest percentage that is told of, and that this budget has reached; 0 for none."""
    part = 100 if exhausted or quota.most == 0 else quota.used * 100 // quota.most
    return max((number for number in TOLD_OF if number <= part), default=0)


def _now(row: Sequence[Any], now: int) -> Quota:
    """Return the quota of a row (`_COLUMNS`) as it stands at this time (ms): what was used, and told of, in an earlier
    period counts no more.
    """
    tenant, key_id, unit, period, most, used, reserved, row_began, told = row
    began, ends = _bounds(period, now)
    if row_began < began:
        used, told = 0, 0
    return Quota(tenant, key_id, unit, period, most, used, reserved, began, ends, told)


def _bounds(period: str, now: int) -> tuple[int, int | None]:
    """Return when the period that this time lies in begins and ends (ms), UTC."""
    if period == "ever":
        return 0, None
    day = datetime.fromtimestamp(now / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        first, last = day, day + timedelta(days=1)
    else:
        first = day.replace(day=1)
        last = (first + timedelta(days=32)).replace(day=1)
    return int(first.timestamp() * 1000), int(last.timestamp() * 1000)
