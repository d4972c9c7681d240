"""Quotas of tenants and their keys, in tokens or money: reserved before a job runs, settled when it has ended. Use and
reservations together never exceed a quota, whichever door jobs come through.

A reservation is a row by the job's id, and counts against every quota of its tenant and key. A gateway makes it before
it sends a job, with an expiry, in case that never comes; ingest adopts it, or makes it for a job that came by Kafka or
in a batch; the one function that ends jobs settles it. Tokens are reserved for the whole job at once; those of a tuning
job are an estimate until its first stage has counted them. Money is reserved for one call of a model at a time, in the
transaction that routes the job to it. Lock order: quotas after all else but turns, in the order of their keys, and then
reservations.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from pydantic_core import from_json
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    String,
    and_,
    bindparam,
    delete,
    exists,
    literal_column,
    select,
    text,
    update,
)

from headrace_schemas import InvalidRecord, Topic
from headrace_schemas.codec import decode_value
from headrace_schemas.event_types import types_on
from headrace_schemas.events import made_in
from headrace_schemas.job import AnyJob
from headrace_workers.core.ledger.accounting import KnownCost
from headrace_workers.core.ledger.dead_letters import Burial
from headrace_workers.core.ledger.ingest import NewJob, digest_of
from headrace_workers.core.ledger.model_calls import WantedCall, WantedWork
from headrace_workers.core.ledger.positions import read_until
from headrace_workers.core.sql.database import (
    among,
    bindparam_of,
    clock,
    insert,
    insert_many,
    last,
    many,
    now_ms,
    one_of,
)
from headrace_workers.core.sql.statements import run
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.core.tables import JOBS, LOST_CALLS, NEVER, STEPS
from headrace_workers.features.access.store import quota_rows
from headrace_workers.features.access.store.quota_rows import (
    Quota,
    QuotaKey,
    change,
    give_back,
    locked,
    locked_for,
    tell_exhausted,
)
from headrace_workers.features.access.tables import BOUNDS_PAID, IS_WAITED_FOR, RESERVATIONS

_IS_BOUND: Final = LOST_CALLS.c.told_at.is_not(None) & LOST_CALLS.c.amount.is_(None)
_TO_NOTE: Final = select(
    LOST_CALLS.c.job_id,
    LOST_CALLS.c.claim_id,
    bindparam("whose", type_=String),
    bindparam("sent_by", type_=String),
    bindparam("now", type_=BigInteger),
).where(LOST_CALLS.c.job_id == bindparam("job"), _IS_BOUND)


class PaidBound(NamedTuple):
    """A row of the table."""

    job_id: str
    claim_id: int
    tenant: str
    key_id: str
    paid_at: int


def has_bounds(job_id: Any) -> Any:
    """Return the condition that the end of a job told bounds of calls whose costs are not known."""
    return exists(literal_column("1")).where(LOST_CALLS.c.job_id == job_id, _IS_BOUND)


def note_bounds(connection: Connection, payers: Iterable[tuple[str, str, str]]) -> None:
    """Note who pays the bounds of these jobs, which end now: pairs of job, tenant and key. Bounds that an earlier end
    told are there already.
    """
    now = clock(connection)
    rows = [{"job": job_id, "whose": tenant, "sent_by": key_id, "now": now} for job_id, tenant, key_id in payers]
    statement = insert(connection, BOUNDS_PAID).from_select(list(PaidBound._fields), _TO_NOTE)
    connection.execute(statement.on_conflict_do_nothing(), rows)


def take_bounds(connection: Connection, calls: Collection[tuple[str, int]]) -> list[PaidBound]:
    """Return who paid the bounds of these calls (job and claim), and forget it."""
    found = []
    for job_id, claim_id in sorted(calls):
        this = and_(BOUNDS_PAID.c.job_id == job_id, BOUNDS_PAID.c.claim_id == claim_id)
        columns = (BOUNDS_PAID.c[name] for name in PaidBound._fields)
        found += [
            PaidBound._make(row) for row in connection.execute(delete(BOUNDS_PAID).where(this).returning(*columns))
        ]
    return found


def forget_bounds(connection: Connection, job_ids: Sequence[str]) -> None:
    """Delete the rows of jobs that are about to be deleted."""
    connection.execute(delete(BOUNDS_PAID).where(among(connection, BOUNDS_PAID.c.job_id, job_ids)))


UNADOPTED_MS: Final = 3_600_000  # so long a reservation waits until its job is taken in
PASSED_MS: Final = 180_000  # and so long, if ingest has read what came since: its gateway was killed before it sent it
_MICRO: Final = 1_000_000
_Event: TypeAlias = Mapping[str, Any]  # an event


class WantedQuota(NamedTuple):
    """The tokens and the money that a job may use. Jobs of one `group` are let in all, or none; absent, each is a group
    of its own. `unpriced` is a model that the job may need and whose price is not known.

    `digest` says for which content of the job it is, where another may come under its id: see `Wish.digest`.
    """

    job_id: str
    tenant: str
    tokens: int
    money: int = 0
    unpriced: str | None = None
    key_id: str = ""
    group: object = None
    digest: str | None = None

    def amount(self, unit: str) -> int:
        """Return how much it is in this unit."""
        return self.money if unit == "money" else self.tokens


class Beyond(NamedTuple):
    """The quota that a job goes beyond, and how much more it may need; `unpriced` is a model whose price is not known,
    where that is why.
    """

    quota: Quota
    amount: int
    unpriced: str | None = None

    @property
    def reason(self) -> str:
        """Return the reason for which the job is refused."""
        quota = self.quota
        who = f"the key {quota.key_id}" if quota.key_id else f"the tenant {quota.tenant}"
        if self.unpriced is not None:
            return (
                f"{who} has a budget, and the price of the model {self.unpriced} is not known: set it in models.toml "
                f"([prices.{self.unpriced}]), or use a model with a price"
            )
        per = "" if quota.period == "ever" else f" a {quota.period}"
        if quota.unit == "money":
            most, used, reserved, amount = (
                f"{number / _MICRO:,.6f}" for number in (quota.most, quota.used, quota.reserved, self.amount)
            )
            return (
                f"{who} may spend {most}{per}, of which {used} is spent and {reserved} reserved: the next call of a "
                f"model may cost more than is left, up to {amount}"
            )
        return (
            f"{who} may use {quota.most:,} tokens{per}, of which {quota.used:,} are used and "
            f"{quota.reserved:,} reserved: this job may need more than is left, up to {self.amount:,}"
        )


class _Reserved(NamedTuple):
    """A row of the table."""

    job_id: str
    tenant: str
    key_id: str
    tokens: int
    money: int
    expires_at: int


def reserve(
    connection: Connection, wants: Sequence[WantedQuota], *, adopt: bool, also: Collection[str] = ()
) -> dict[str, Beyond]:
    """Reserve for each job what it may use, where its tenant has a quota; return the jobs for which not enough is left,
    each with the quota: for these nothing changes. An earlier reservation under a job's id, perhaps for other content,
    counts towards this job's, and is replaced by it.

    With `adopt` what is reserved is so until the jobs end; else until they are taken in, or it expires. A job that was
    taken in keeps what it has: what else comes under its id is refused. `also` are tenants whose quotas this
    transaction may change later: all are locked at once, so that two transactions never wait for each other.
    """
    quotas = locked(connection, {want.tenant for want in wants} | set(also))
    wanted = [want for want in wants if want.tenant in quotas]
    if not wanted:
        return {}
    had = _reserved(connection, [want.job_id for want in wanted])
    running = set() if adopt else {job_id for job_id, row in had.items() if row.expires_at == NEVER}
    groups: dict[tuple[str, object], dict[str, WantedQuota]] = {}
    for want in wanted:
        if want.job_id not in running:
            group = groups.setdefault((want.tenant, want.job_id if want.group is None else want.group), {})
            sent_by = had[want.job_id].key_id if adopt and want.job_id in had else want.key_id
            group[want.job_id] = want if sent_by == want.key_id else want._replace(key_id=sent_by)
    more: dict[QuotaKey, int] = {}
    over: dict[str, Beyond] = {}
    kept: list[WantedQuota] = []
    for (tenant, _), group in groups.items():
        asked: dict[QuotaKey, int] = {}
        beyond = None
        for quota in quotas[tenant]:
            mine = [want for want in group.values() if quota.holds_for(want.key_id)]
            unpriced = next((want.unpriced for want in mine if want.unpriced), None) if quota.unit == "money" else None
            amount = sum(want.amount(quota.unit) - _had(had.get(want.job_id), quota) for want in mine)
            if unpriced is not None or (amount > 0 and amount > _free(quota, more)):
                beyond = _beyond(quota, more, amount, unpriced)
                break
            asked[quota.key] = amount
        if beyond is not None:
            over |= dict.fromkeys(group, beyond)
            continue
        for key, amount in asked.items():
            more[key] = more.get(key, 0) + amount
        kept += group.values()
    tell_exhausted(connection, quotas, {row.quota.key for row in over.values() if row.unpriced is None})
    _write(connection, kept, adopt)
    change(connection, quotas, {key: (amount, 0) for key, amount in more.items() if amount})
    return over


def _reserved(connection: Connection, job_ids: Sequence[str]) -> dict[str, _Reserved]:
    rows = run(connection, _reservations(connection.dialect.name), {"jobs": list(job_ids)})
    return {row.job_id: row for row in map(_Reserved._make, rows)}


@lru_cache
def _reservations(dialect: str) -> Any:
    return select(*(RESERVATIONS.c[name] for name in _Reserved._fields)).where(_of_jobs(dialect))


def _of_jobs(dialect: str) -> ColumnElement[bool]:
    jobs = bindparam_of(dialect, RESERVATIONS.c.job_id, name="jobs")
    return one_of(dialect, RESERVATIONS.c.job_id, jobs)


def _had(row: _Reserved | None, quota: Quota) -> int:
    """Return what is reserved of a quota by this row, if there is one."""
    if row is None or not quota.holds_for(row.key_id):
        return 0
    return int(row.money if quota.unit == "money" else row.tokens)


def call(connection: Connection, calls: Mapping[str, WantedCall]) -> dict[str, str]:
    """Reserve for the next calls of jobs that were taken in, in place of the calls before, of which it is known what
    they cost; return the jobs for which not enough is left, each with the reason.
    """
    quotas = locked_for(connection, sorted(calls))
    rows = _reserved(connection, sorted(calls)) if quotas else {}
    more: dict[QuotaKey, int] = {}
    over: dict[str, str] = {}
    exhausted: set[QuotaKey] = set()
    changed: list[_Reserved] = []
    for job_id, row in sorted(rows.items()):
        wanted = calls[job_id]
        tokens = row.tokens if wanted.to_train is None else wanted.trained + wanted.to_train
        new = row._replace(money=wanted.spent + wanted.most, tokens=tokens)
        amounts = {"money": new.money - row.money, "tokens": tokens - row.tokens}
        rests = {"money": wanted.most, "tokens": wanted.to_train or 0}
        asked = {unit for unit, amount in amounts.items() if amount > 0 or (wanted.goes_on and rests[unit])}
        theirs = [quota for quota in quotas.get(row.tenant, ()) if quota.holds_for(row.key_id)]
        beyond = next(
            (quota for quota in theirs if quota.unit in asked and amounts[quota.unit] > _free(quota, more)), None
        )
        if beyond is not None:
            amount = amounts[beyond.unit]
            rest = rests[beyond.unit] if wanted.goes_on else amount  # of it, so much is reserved
            over[job_id] = _beyond(beyond, {beyond.key: more.get(beyond.key, 0) + amount - rest}, rest).reason
            exhausted.add(beyond.key)
        elif new != row:  # also where no budget is there: one that is set later counts what is reserved
            changed.append(new)
            for quota in theirs:
                more[quota.key] = more.get(quota.key, 0) + amounts[quota.unit]
    if changed:
        _pay(connection, changed)
    change(connection, quotas, {key: (amount, 0) for key, amount in more.items() if amount})
    tell_exhausted(connection, quotas, exhausted)
    return over


def _pay(connection: Connection, reserved: Iterable[_Reserved]) -> None:
    """Write what is reserved for these jobs now."""
    rows = [{"job": row.job_id, "worth": row.money, "counted": row.tokens} for row in reserved]
    if connection.dialect.name == "postgresql":
        run(connection, _PAY_MANY, many("postgresql", rows))
    else:
        run(connection, _PAY, rows)


_PAY: Final = (
    update(RESERVATIONS)
    .where(RESERVATIONS.c.job_id == bindparam("job"))
    .values(money=bindparam("worth"), tokens=bindparam("counted"))
)
_PAY_MANY: Final = text("""
    UPDATE reservations SET money = now.worth, tokens = now.counted
    FROM unnest(CAST(:job AS varchar[]), CAST(:worth AS bigint[]), CAST(:counted AS bigint[]))
        AS now (job, worth, counted)
    WHERE reservations.job_id = now.job
""")


def _free(quota: Quota, more: Mapping[QuotaKey, int]) -> int:
    return quota.most - quota.used - quota.reserved - more.get(quota.key, 0)


def _beyond(quota: Quota, more: Mapping[QuotaKey, int], amount: int, unpriced: str | None = None) -> Beyond:
    """Return the quota with what this transaction has reserved of it: else it would seem to have room."""
    return Beyond(replace(quota, reserved=quota.reserved + more.get(quota.key, 0)), amount, unpriced)


def reserve_ahead(connection: Connection, wants: Sequence[WantedQuota]) -> dict[str, Beyond]:
    """Reserve what jobs may use before they are sent; return those for which not enough is left. See `reserve`."""
    return reserve(connection, wants, adopt=False)


def waiting(connection: Connection, job_ids: Collection[str]) -> set[str]:
    """Return those of these jobs for which something is reserved, and which are not taken in."""
    if not job_ids:
        return set()
    query = select(RESERVATIONS.c.job_id).where(IS_WAITED_FOR, among(connection, RESERVATIONS.c.job_id, list(job_ids)))
    return set(connection.execute(query).scalars())


def release(connection: Connection, refused: Collection[tuple[str, str]]) -> None:
    """Give back what is reserved for these jobs (id and digest), which will not be taken in. Reservations of jobs that
    were taken in, or for other content under the same id, stay.
    """
    if refused:
        job_ids, digests = (sorted(set(column)) for column in zip(*refused, strict=True))
        theirs = RESERVATIONS.c.digest.is_(None) | among(connection, RESERVATIONS.c.digest, digests)
        mine = IS_WAITED_FOR & among(connection, RESERVATIONS.c.job_id, job_ids) & theirs
        locked_for(connection, job_ids)  # nobody reserves for other content meanwhile
        _end(
            connection, list(connection.execute(select(RESERVATIONS.c.job_id).where(mine)).scalars()), {}, waiting=True
        )


def has_reservation() -> ColumnElement[bool]:
    """Return the condition that something is reserved for a job."""
    return select(RESERVATIONS.c.job_id).where(RESERVATIONS.c.job_id == JOBS.c.id).exists()


def admit(connection: Connection, jobs: Sequence[NewJob], tenants: Collection[str]) -> dict[str, str]:
    """Reserve what these new jobs may cost; return those that go beyond their tenants' quotas, each with the reason. Of
    the jobs of one line of a batch all are admitted, or none. See `reserve` for `tenants`.
    """
    wants = [
        WantedQuota(
            job.id, job.tenant, job.cost, job.money, job.unpriced,
            group=None if job.line is None else (job.batch, job.line),
        )
        for job in jobs
    ]  # fmt: skip
    over = reserve(connection, wants, adopt=True, also=tenants)
    return {job_id: beyond.reason for job_id, beyond in over.items()}


def work(connection: Connection, works: Sequence[WantedWork]) -> dict[str, str]:
    """Reserve what dead jobs may use from where they died, and units that ask a model; return those that go beyond
    their tenants' quotas, each with the reason. They count for the tenant: no key is known to have sent them.
    """
    wants = [
        WantedQuota(
            job.id, job.tenant, job.tokens, (job.call.most or 0) if job.call else 0,
            job.call.model if job.call is not None and job.call.is_unpriced else None,
        )
        for job in works
    ]  # fmt: skip
    return {job_id: beyond.reason for job_id, beyond in reserve(connection, wants, adopt=True).items()}


def release_refused(connection: Connection, refused: Sequence[Burial], not_taken: Sequence[NewJob]) -> None:
    """Give back what gateways reserved for these records, which do not become jobs."""
    came = [(burial.refers_to, burial.topic, burial.value) for burial in refused if burial.refers_to is not None]
    came += [(job.id, job.record.topic, job.value) for job in not_taken]
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
    """Count what these jobs and units used, which have ended with these events, and release what was reserved for them.
    One without an event used nothing.

    It is done at the end of the transaction, for all that end in it.
    """
    last(connection, _settle, ends)


def hold(connection: Connection, tenants: Collection[str]) -> None:
    """Lock the quotas of these tenants, all in one order, for who reserves in a transaction in which jobs also end."""
    locked(connection, tenants)


def _settle(connection: Connection, ends: Mapping[str, bytes | None]) -> None:
    _end(connection, sorted(ends), {job_id: event for job_id, event in ends.items() if event is not None})


def _come_to(connection: Connection, ends: Mapping[str, _Event]) -> dict[str, _Event]:
    """Return the events that jobs had come to which died before their last step was tried, such as those that were
    held: a model had answered, and its tokens are used.
    """
    untried = [job_id for job_id, told in ends.items() if _is_untried(told)]
    if not untried:
        return {}
    query = select(STEPS.c.job_id, STEPS.c.payload).where(among(connection, STEPS.c.job_id, untried))
    rows = connection.execute(query.where(STEPS.c.payload.is_not(None)))
    return {job_id: from_json(event) for job_id, event in rows}


def _is_untried(told: _Event) -> bool:
    return "category" in told and not told.get("attempts")


def expire(connection: Connection, _older_than_ms: int) -> bool:
    """End a bounded number of reservations whose jobs were never taken in; return False: the rest can wait. A job that
    is taken in later reserves anew, or is refused.
    """
    passed = RESERVATIONS.c.expires_at - UNADOPTED_MS + PASSED_MS < read_until()
    old = select(RESERVATIONS.c.job_id).where(IS_WAITED_FOR, (RESERVATIONS.c.expires_at < now_ms()) | passed).limit(500)
    job_ids = list(connection.execute(old).scalars())
    if job_ids:
        _end(connection, job_ids, {}, waiting=True)
    return False


def _write(connection: Connection, wants: Sequence[WantedQuota], adopt: bool) -> None:
    if not wants:
        return
    expires = NEVER if adopt else clock(connection) + UNADOPTED_MS
    rows = [
        {
            "job_id": want.job_id, "tenant": want.tenant, "key_id": want.key_id, "tokens": want.tokens,
            "money": want.money, "digest": want.digest, "expires_at": expires,
        }
        for want in sorted(wants, key=lambda want: want.job_id)
    ]  # fmt: skip
    dialect = connection.dialect.name
    run(connection, _upsert(dialect), many(dialect, rows))


@lru_cache
def _upsert(dialect: str) -> Any:
    statement = insert_many(dialect, RESERVATIONS, list(RESERVATIONS.c), {})
    changes = {name: statement.excluded[name] for name in ("key_id", "tokens", "money", "digest", "expires_at")}
    return statement.on_conflict_do_update(index_elements=["job_id"], set_=changes)


def _end(connection: Connection, job_ids: Sequence[str], ends: Mapping[str, bytes], *, waiting: bool = False) -> None:
    """End the reservations for these jobs; `ends` are the events that ended jobs. With `waiting` those of jobs that
    were taken in stay.
    """
    if not job_ids:
        return
    told: dict[str, _Event] = {job_id: from_json(event) for job_id, event in ends.items()}
    come_to = told | _come_to(connection, told)
    quotas = locked_for(connection, job_ids)  # from here on others wait: all that takes time is done before
    gone = run(connection, _delete(connection.dialect.name, waiting), {"jobs": list(job_ids)})
    rows = [_Reserved._make(row) for *row, _ in gone]
    if bounds := [(job_id, tenant, key_id) for job_id, tenant, key_id, *_, has_bounds in gone if has_bounds]:
        note_bounds(connection, bounds)
    changes: dict[QuotaKey, tuple[int, int]] = {}
    for row in rows:
        used = {"tokens": 0, "money": 0}
        if row.job_id in told:
            used = {"tokens": _used(come_to[row.job_id], row.tokens), "money": _spent(told[row.job_id])}
        for quota in quotas.get(row.tenant, ()):
            if quota.holds_for(row.key_id):
                reserved, before = changes.get(quota.key, (0, 0))
                changes[quota.key] = reserved - _had(row, quota), before + used[quota.unit]
    change(connection, quotas, changes)


@lru_cache
def _delete(dialect: str, waiting: bool) -> Any:
    which = _of_jobs(dialect) & IS_WAITED_FOR if waiting else _of_jobs(dialect)
    columns = (RESERVATIONS.c[name] for name in _Reserved._fields)
    return delete(RESERVATIONS).where(which).returning(*columns, has_bounds(RESERVATIONS.c.job_id))


def correct(connection: Connection, costs: Sequence[KnownCost]) -> None:
    """Free the money that lost calls did not cost: of what is reserved for jobs that go on, and of what is used."""
    quotas = locked(connection, {cost.tenant for cost in costs})
    less: dict[str, int] = {}
    for cost in costs:
        if cost.told_at is None:
            less[cost.job_id] = less.get(cost.job_id, 0) + cost.bound - cost.amount
    changes: dict[QuotaKey, tuple[int, int]] = {}
    rows = _reserved(connection, sorted(less)) if less else {}
    for job_id, row in sorted(rows.items()):
        for quota in quotas.get(row.tenant, ()):
            if quota.unit == "money" and quota.holds_for(row.key_id):
                changes[quota.key] = (changes.get(quota.key, (0, 0))[0] - less[job_id], 0)
    if rows:
        _pay(connection, [row._replace(money=row.money - less[job_id]) for job_id, row in rows.items()])
    change(connection, quotas, changes)
    ended = {(cost.job_id, cost.claim_id): cost.bound - cost.amount for cost in costs if cost.told_at is not None}
    for paid in take_bounds(connection, ended):
        for quota in quotas.get(paid.tenant, ()):
            if quota.unit == "money" and quota.holds_for(paid.key_id):
                give_back(connection, quota, ended[paid.job_id, paid.claim_id], paid.paid_at)


def _used(told: _Event, reserved: int) -> int:
    """Return what a job used that ended with this event: the tokens of an answer that was made for it, and nothing for
    one that was there. For a job that died while it ran, the use is unknown: return its reservation. One that was
    cancelled used nothing, and neither does one for which none are reserved: it was replayed after its answer, which
    was counted. A tuning job used what it trained, however it ended.
    """
    if not reserved:
        return 0
    models: Sequence[Mapping[str, Any]] = (told.get("cost") or {}).get("models", ())
    trained = sum(int(model.get("trained_tokens") or 0) for model in models)
    if trained or told.get("kind") == "tuning" or told.get("topic") == Topic.TUNING:
        return trained
    if "category" in told:
        return 0 if _is_untried(told) else reserved
    if ((told.get("answer") or {}).get("recall") or {}).get("tier", "none") != "none":
        return 0
    usage: Mapping[str, Any] = made_in(told).get("usage") or {}
    return int(usage.get("prompt_tokens", 0)) + int(usage.get("completion_tokens", 0))


def _spent(told: _Event) -> int:
    """Return the money that a job cost which ended with this event, in micro-units."""
    return int((told.get("cost") or {}).get("amount", 0))


class Quotas(LedgerStore):
    """The quotas of one ledger's tenants. Thread-safe. Unavailable when it does not answer."""

    find = reads(quota_rows.quotas)
    put = durable(quota_rows.put)
    remove = durable(quota_rows.remove)
    reserve = durable(reserve_ahead)
    release = durable(release)
