"""Token quotas of tenants: reserved before a job runs, settled when it has ended. What is used and what is reserved are
never more together than the quota, through whatever door jobs come.

A reservation is a row by the job's id. A gateway makes it before it sends a job, with an expiry, in case that never
comes; ingest adopts it, or makes it for a job that came by Kafka or in a batch; the one function that ends jobs settles
it. Lock order: quotas behind all else but turns, in the order of their tenants, and then reservations.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

from pydantic_core import from_json
from sqlalchemy import BigInteger, ColumnElement, Connection, Row, bindparam, delete, select, update

from headrace_schemas import InvalidRecord, Topic
from headrace_schemas.codec import decode_value
from headrace_schemas.event_types import types_on
from headrace_schemas.job import AnyJob
from headrace_workers.core.ledger.dead_letters import Burial
from headrace_workers.core.ledger.new_jobs import NewJob
from headrace_workers.core.ledger.repetitions import digest_of
from headrace_workers.core.sql.database import among, bindparam_of, clock, insert, last, now_ms, one_of
from headrace_workers.core.sql.driver_statements import run
from headrace_workers.core.tables import JOBS, NEVER, STEPS
from headrace_workers.features.access.tables import IS_WAITED_FOR, QUOTAS, RESERVATIONS

Period = Literal["day", "month", "ever"]

UNADOPTED_MS: Final = 3_600_000  # so long a reservation waits until its job is taken in


class _Stored(NamedTuple):
    """A row of the table."""

    tenant: str
    tokens: int
    period: str
    began: int
    used: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Quota:
    """A tenant's quota. `used` is of the period that it is now, `reserved` for jobs that have not ended. `ends` is when
    the period does (ms since 1970), None for one that never does.
    """

    tenant: str
    tokens: int
    period: str
    used: int
    reserved: int
    ends: int | None

    @property
    def left(self) -> int:
        """Return what may still be reserved."""
        return max(0, self.tokens - self.used - self.reserved)


@dataclass(frozen=True, slots=True)
class Want:
    """The tokens that a job may use. Jobs of one `group` are let in all, or none; absent, each is a group of its own.

    `digest` says for which content of the job it is, where another may come under its id: see `Wish.digest`.
    """

    job_id: str
    tenant: str
    tokens: int
    group: object = None
    digest: str | None = None


def beyond(quota: Quota) -> str:
    """Return the reason for which a job that goes beyond a quota is refused."""
    per = "" if quota.period == "ever" else f" a {quota.period}"
    return (
        f"the tenant {quota.tenant} may use {quota.tokens:,} tokens{per}, of which {quota.used:,} are used and "
        f"{quota.reserved:,} reserved: this job may need more than is left"
    )


def reserve(
    connection: Connection, wants: Sequence[Want], *, adopt: bool, also: Collection[str] = ()
) -> dict[str, Quota]:
    """Reserve for each job what it may use, where its tenant has a quota; return the jobs for which not enough is left,
    each with the quota: for these nothing changes. What was reserved before under a job's id, perhaps for other
    content, counts towards what this one wants, and becomes just that.

    With `adopt` what is reserved is so until the jobs end; else until they are taken in, or it expires. A job that was
    taken in keeps what it has: what else comes under its id is refused. `also` are tenants whose quotas this
    transaction may change later: all are locked at once, so that two transactions never wait for each other.
    """
    quotas = _locked(connection, {want.tenant for want in wants} | set(also))
    wanted = [want for want in wants if want.tenant in quotas]
    if not wanted:
        return {}
    columns = RESERVATIONS.c.job_id, RESERVATIONS.c.tokens, RESERVATIONS.c.expires_at
    query = select(*columns).where(among(connection, RESERVATIONS.c.job_id, [want.job_id for want in wanted]))
    had = {row.job_id: row for row in connection.execute(query)}
    running = set() if adopt else {job_id for job_id, row in had.items() if row.expires_at == NEVER}
    groups: dict[tuple[str, object], dict[str, Want]] = {}
    for want in wanted:
        if want.job_id not in running:
            group = groups.setdefault((want.tenant, want.job_id if want.group is None else want.group), {})
            group[want.job_id] = want
    more = dict.fromkeys(quotas, 0)
    over: dict[str, Quota] = {}
    kept: list[Want] = []
    for (tenant, _), group in groups.items():
        quota = quotas[tenant]
        asked = sum(want.tokens - (had[job_id].tokens if job_id in had else 0) for job_id, want in group.items())
        if asked > 0 and quota.used + quota.reserved + more[tenant] + asked > quota.tokens:
            over |= dict.fromkeys(group, quota)
            continue
        more[tenant] += asked
        kept += group.values()
    _write(connection, kept, adopt)
    _change(connection, {tenant: (tokens, 0) for tenant, tokens in more.items() if tokens})
    return over


def reserve_ahead(connection: Connection, wants: Sequence[Want]) -> dict[str, Quota]:
    """Reserve what jobs may use before they are sent; return those for which not enough is left. See `reserve`."""
    return reserve(connection, wants, adopt=False)


def waiting(connection: Connection, job_ids: Collection[str]) -> set[str]:
    """Return those of these jobs for which something is reserved, and which are not taken in."""
    if not job_ids:
        return set()
    query = select(RESERVATIONS.c.job_id).where(IS_WAITED_FOR, among(connection, RESERVATIONS.c.job_id, list(job_ids)))
    return set(connection.execute(query).scalars())


def release(connection: Connection, refused: Collection[tuple[str, str]]) -> None:
    """Give back what is reserved for these jobs (id and digest), which will not be taken in. What was taken in, or is
    reserved for other content under the same id, stays.
    """
    job_ids, digests = (sorted(set(column)) for column in zip(*refused, strict=True)) if refused else ([], [])
    if job_ids:
        theirs = RESERVATIONS.c.digest.is_(None) | among(connection, RESERVATIONS.c.digest, digests)
        _end(connection, among(connection, RESERVATIONS.c.job_id, job_ids) & theirs & IS_WAITED_FOR, {})


def has_reservation() -> ColumnElement[bool]:
    """Return the condition that something is reserved for a job."""
    return select(RESERVATIONS.c.job_id).where(RESERVATIONS.c.job_id == JOBS.c.id).exists()


def admit(connection: Connection, jobs: Sequence[NewJob], tenants: Collection[str]) -> dict[str, str]:
    """Reserve what these new jobs may cost; return those that go beyond their tenants' quotas, each with the reason. Of
    the jobs of one line of a batch all are admitted, or none. See `reserve` for `tenants`.
    """
    wants = [Want(job.id, job.tenant, job.cost, None if job.line is None else (job.batch, job.line)) for job in jobs]
    over = reserve(connection, wants, adopt=True, also=tenants)
    return {job_id: beyond(quota) for job_id, quota in over.items()}


def release_refused(connection: Connection, refused: Sequence[Burial], not_taken: Sequence[NewJob]) -> None:
    """Give back what gateways reserved for these records, which do not become jobs."""
    came = [(burial.refers_to, burial.topic, burial.value) for burial in refused if burial.refers_to is not None]
    came += [(job.id, job.record.topic, job.payload) for job in not_taken]
    there = waiting(connection, {job_id for job_id, *_ in came})
    digests = {(job_id, _digest(topic, value)) for job_id, topic, value in came if job_id in there}
    release(connection, {(job_id, digest) for job_id, digest in digests if digest is not None})


def _digest(topic: Topic, value: bytes) -> str | None:
    """Return the digest of a refused record, as `digest_of` does; None for a record that no gateway sent."""
    for event_type in types_on(topic):
        try:
            job = decode_value(event_type.name, value)
        except InvalidRecord:
            return None
        return digest_of(job) if isinstance(job, AnyJob) else None
    return None


def settle(connection: Connection, ends: Mapping[str, bytes | None]) -> None:
    """Count what these jobs used, which have ended with these events, and release what was reserved for them. Units,
    which end without an event, keep theirs.

    It is done at the end of the transaction, for all that end in it.
    """
    if events := {job_id: event for job_id, event in ends.items() if event is not None}:
        last(connection, _settle, events)


def hold(connection: Connection, tenants: Collection[str]) -> None:
    """Lock the quotas of these tenants, all in one order, for who reserves in a transaction in which jobs also end."""
    _locked(connection, tenants)


def _settle(connection: Connection, ends: Mapping[str, bytes]) -> None:
    _end(connection, among(connection, RESERVATIONS.c.job_id, sorted(ends)), ends)


def _come_to(connection: Connection, ends: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the events that jobs had come to which died before their last step was tried, such as those that were
    held: a model had answered, and its tokens are used.
    """
    untried = [job_id for job_id, event in ends.items() if _is_untried(from_json(event))]
    if not untried:
        return {}
    query = select(STEPS.c.job_id, STEPS.c.payload).where(among(connection, STEPS.c.job_id, untried))
    return dict(iter(connection.execute(query.where(STEPS.c.payload.is_not(None)))))


def _is_untried(told: Mapping[str, Any]) -> bool:
    return "category" in told and not told.get("attempts")


def expire(connection: Connection, _older_than_ms: int) -> bool:
    """End a bounded number of reservations whose jobs were never taken in; return False: the rest can wait."""
    old = select(RESERVATIONS.c.job_id).where(IS_WAITED_FOR, RESERVATIONS.c.expires_at < now_ms()).limit(500)
    job_ids = list(connection.execute(old).scalars())
    if job_ids:
        _end(connection, among(connection, RESERVATIONS.c.job_id, job_ids) & IS_WAITED_FOR, {})
    return False


def put(connection: Connection, tenant: str, tokens: int, period: Period) -> None:
    """Set a tenant's quota. What was used in this period stays used."""
    row = {"tenant": tenant, "tokens": tokens, "period": period, "began": clock(connection), "used": 0, "reserved": 0}
    statement = insert(connection, QUOTAS).values(row)
    changes = {"tokens": tokens, "period": period}
    connection.execute(statement.on_conflict_do_update(index_elements=["tenant"], set_=changes))


def remove(connection: Connection, tenant: str) -> bool:
    """Let a tenant use as much as it likes; return whether it had a quota."""
    if not _locked(connection, {tenant}):
        return False
    connection.execute(delete(RESERVATIONS).where(RESERVATIONS.c.tenant == tenant))
    connection.execute(delete(QUOTAS).where(QUOTAS.c.tenant == tenant))
    return True


def quotas(
    connection: Connection,
    tenants: Collection[str] | None = None,
    *,
    limit: int | None = None,
    after: str | None = None,
) -> list[Quota]:
    """Return so many quotas at most, of all tenants or of these, by tenant, those that come after `after`."""
    query = select(QUOTAS).order_by(QUOTAS.c.tenant).limit(limit)
    if after is not None:
        query = query.where(QUOTAS.c.tenant > after)
    if tenants is not None:
        query = query.where(among(connection, QUOTAS.c.tenant, sorted(tenants)))
    rows = connection.execute(query).all()
    now = clock(connection) if rows else 0
    return [_now(row, now) for row in rows]


def _locked(connection: Connection, tenants: Collection[str]) -> dict[str, Quota]:
    """Lock the quotas of these tenants, which nobody else changes until this transaction ends; return them."""
    rows = run(connection, _lock(connection.dialect.name), {"tenants": sorted(tenants)})
    now = clock(connection) if rows else 0
    return {row.tenant: _now(row, now) for row in map(_Stored._make, rows)}


@lru_cache
def _lock(dialect: str) -> Any:
    """Lock the rows of these tenants. Mostly there is none, and each job that is taken in asks."""
    tenants = one_of(dialect, QUOTAS.c.tenant, bindparam_of(dialect, QUOTAS.c.tenant, name="tenants"))
    query = select(*(QUOTAS.c[name] for name in _Stored._fields)).where(tenants).order_by(QUOTAS.c.tenant)
    return query.with_for_update() if dialect == "postgresql" else query


def _write(connection: Connection, wants: Sequence[Want], adopt: bool) -> None:
    if not wants:
        return
    expires = NEVER if adopt else clock(connection) + UNADOPTED_MS
    statement = insert(connection, RESERVATIONS)
    changes = {name: statement.excluded[name] for name in ("tokens", "digest", "expires_at")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["job_id"], set_=changes),
        [
            {
                "job_id": want.job_id, "tenant": want.tenant, "tokens": want.tokens, "digest": want.digest,
                "expires_at": expires,
            }
            for want in sorted(wants, key=lambda want: want.job_id)
        ],
    )  # fmt: skip


def _end(connection: Connection, which: Any, ends: Mapping[str, bytes]) -> None:
    """End these reservations; `ends` are the events that ended jobs."""
    tenants = set(connection.execute(select(RESERVATIONS.c.tenant).where(which).distinct()).scalars())
    if not tenants:
        return
    _locked(connection, tenants)
    gone = connection.execute(
        delete(RESERVATIONS).where(which).returning(RESERVATIONS.c.job_id, RESERVATIONS.c.tenant, RESERVATIONS.c.tokens)
    ).all()
    told = {row.job_id: ends[row.job_id] for row in gone if row.job_id in ends}
    told |= _come_to(connection, told)
    changes: dict[str, tuple[int, int]] = {}
    for row in gone:
        reserved, used = changes.get(row.tenant, (0, 0))
        event = told.get(row.job_id)
        changes[row.tenant] = reserved - row.tokens, used + (_used(event, row.tokens) if event else 0)
    _change(connection, changes)


def _change(connection: Connection, changes: Mapping[str, tuple[int, int]]) -> None:
    """Reserve so much more (or less), and count so much as used, for each of these tenants, whose quotas are locked."""
    if not changes:
        return
    now = clock(connection)
    rows = {row.tenant: row for row in connection.execute(select(QUOTAS).where(QUOTAS.c.tenant.in_(list(changes))))}
    connection.execute(
        update(QUOTAS)
        .where(QUOTAS.c.tenant == bindparam("whose"))
        .values(
            reserved=QUOTAS.c.reserved + bindparam("more", type_=BigInteger),
            used=bindparam("spent", type_=BigInteger),
            began=bindparam("since", type_=BigInteger),
        ),
        [
            {"whose": tenant, "more": reserved, "spent": _now(rows[tenant], now).used + used, "since": now}
            for tenant, (reserved, used) in sorted(changes.items())
            if tenant in rows
        ],
    )


def _now(row: _Stored | Row[Any], now: int) -> Quota:
    """Return the quota as it stands at this time (ms): what was used in an earlier period counts no more."""
    began, ends = _bounds(row.period, now)
    return Quota(row.tenant, row.tokens, row.period, row.used if row.began >= began else 0, row.reserved, ends)


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


def _used(event: bytes, reserved: int) -> int:
    """Return what a job used that ended with this event: the tokens of an answer that was made for it, and nothing
    for one that was there. Of one that died while it ran nobody knows: what was reserved. One that was cancelled used
    nothing.
    """
    told: dict[str, Any] = from_json(event)
    if "category" in told:
        return 0 if _is_untried(told) else reserved
    if ((told.get("answer") or {}).get("recall") or {}).get("tier", "none") != "none":
        return 0
    made = (told.get(name) for name in ("answer", "embedding"))
    usage: dict[str, Any] = next((part.get("usage") or {} for part in made if part), {})
    return int(usage.get("prompt_tokens", 0)) + int(usage.get("completion_tokens", 0))
