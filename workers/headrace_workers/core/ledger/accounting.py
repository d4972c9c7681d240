"""Accounting: what ended jobs cost is given to features once; and calls whose outcome nobody recorded are charged with
a bound.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import Connection, and_, bindparam, delete, select, update

from headrace_schemas.events import Cost
from headrace_workers.core.ledger.charges import Charge, NextCall, call_in, context_of, lost, with_charges
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.ledger.outbox import Outgoing
from headrace_workers.core.pipeline.stage import model_of
from headrace_workers.core.sql.database import among, clock, insert
from headrace_workers.core.sql.statements import append
from headrace_workers.core.tables import COUNTED, IS_KNOWN_LATE, JOBS, LOST_CALLS, SILENT

# Calls of models whose outcome nobody recorded: their worker was killed, hung or stopped, or lost its lease, or their
# job was cancelled. Each has a row of its own and is charged with the most that it may have cost, since its provider
# may bill it. If its worker comes back with the answer, it says what the call cost, and that takes the bound's place:
# see `learn`.
#
# A row lives until its cost is known and told, or its job is forgotten. The end of its job tells the cost as far as it
# is known by then. All rows of an active job belong to the holder of the job's lock; rows whose cost became known after
# that belong to the accounting, which deletes them.

_UNTOLD: Final = LOST_CALLS.c.told_at.is_(None)
_KNOWN: Final = LOST_CALLS.c.amount.is_not(None)


class LostCall(NamedTuple):
    """A row of the table."""

    job_id: str
    claim_id: int
    model: str
    currency: str | None
    bound: int | None
    amount: int | None
    told_at: int | None

    @property
    def charge(self) -> Charge:
        """Return what it is charged with for now."""
        if self.amount is None:
            return Charge(self.model, self.bound, self.currency, is_bound=self.bound is not None)
        return Charge(self.model, self.amount, self.currency)


COLUMNS: Final = tuple(LOST_CALLS.c[name] for name in LostCall._fields)


@dataclass(frozen=True, slots=True)
class AskedModel:
    """A step whose worker was asking a model when it lost the step."""

    job_id: str
    claim_id: int
    queue: str
    context: bytes | None

    @property
    def call(self) -> NextCall:
        """Return the call that it was at."""
        return call_in(context_of(self.context), model_of(self.queue) or "")


def note(connection: Connection, asked: Sequence[AskedModel]) -> None:
    """Write the calls that were lost with these steps, whose jobs the caller has locked."""
    rows = []
    for model in asked:
        charge = lost(model.call)
        rows.append(
            LostCall(model.job_id, model.claim_id, charge.model, charge.currency, charge.amount, None, None)._asdict()
        )
    append(connection, LOST_CALLS, rows)


def is_untold(job_id: Any) -> Any:
    """Return the condition that a job has a lost call that no end of it has told."""
    return select(LOST_CALLS.c.job_id).where(LOST_CALLS.c.job_id == job_id, _UNTOLD).exists()


def spent(connection: Connection, job_ids: Sequence[str]) -> dict[str, int]:
    """Return what the lost calls of these jobs, which are active and locked, are charged with."""
    found: dict[str, int] = {}
    for call in _untold(connection, job_ids):
        found[call.job_id] = found.get(call.job_id, 0) + (call.charge.amount or 0)
    return found


def tell(connection: Connection, job_ids: Sequence[str], now: int) -> dict[str, list[Charge]]:
    """Return the charges of the lost calls of these jobs, which are locked and end now with events that tell them."""
    charges: dict[str, list[Charge]] = {}
    for call in _untold(connection, job_ids):
        charges.setdefault(call.job_id, []).append(call.charge)
    if charges:
        theirs = and_(among(connection, LOST_CALLS.c.job_id, sorted(charges)), _UNTOLD)
        connection.execute(delete(LOST_CALLS).where(theirs, _KNOWN))
        connection.execute(update(LOST_CALLS).where(theirs).values(told_at=now))
    return charges


def _untold(connection: Connection, job_ids: Sequence[str]) -> list[LostCall]:
    if not job_ids:
        return []
    query = select(*COLUMNS).where(among(connection, LOST_CALLS.c.job_id, job_ids), _UNTOLD)
    return [LostCall._make(row) for row in connection.execute(query.order_by(LOST_CALLS.c.job_id))]


def with_cost(value: bytes | None, charges: Sequence[Charge]) -> bytes:
    """Return the value of an event, or of what a unit's calls cost, with these charges added to its cost."""
    told: dict[str, Any] = {} if value is None else from_json(value)
    before = told.get("cost")
    cost = with_charges(None if before is None else Cost.model_validate(before), charges)
    return to_json({**told, "cost": cost.model_dump(mode="json", exclude_none=True)})


def told_with(record: Outgoing | None, charges: Sequence[Charge]) -> Outgoing | None:
    """Return the record of a job's end with these charges added to its cost."""
    return record if record is None or not charges else record._replace(value=with_cost(record.value, charges))


def take_known(connection: Connection, ended: Mapping[str, int]) -> dict[str, list[LostCall]]:
    """Return the lost calls of these jobs whose cost became known after the ends at these times (ms) had told a bound,
    and delete them: the caller, who does the accounting, counts what they cost.
    """
    query = select(*COLUMNS).where(IS_KNOWN_LATE)
    found: dict[str, list[LostCall]] = {}
    for call in map(LostCall._make, connection.execute(query)):
        if ended.get(call.job_id) == call.told_at:
            found.setdefault(call.job_id, []).append(call)
    if found:
        theirs = among(connection, LOST_CALLS.c.job_id, sorted(found))
        connection.execute(delete(LOST_CALLS).where(theirs, IS_KNOWN_LATE))
    return found


def forget(connection: Connection, job_ids: Sequence[str]) -> None:
    """Delete the lost calls of these jobs, which are about to be deleted."""
    connection.execute(delete(LOST_CALLS).where(among(connection, LOST_CALLS.c.job_id, job_ids)))


# Accounting: each job that ended is given to features once, outside the hot path.
#
# Jobs are accounted for in the order of their ends, up to a time that lies far enough back that every ending
# transaction has committed. That time is stored, and moves in the transaction in which features count. (If the
# database's clock is set back, jobs that end in the repeated time are not counted the second time.)

LAG_MS: Final = 120_000  # longer than any transaction may take
AT_ONCE = 2_000
_WHAT = "jobs"
_IS_COUNTED: Final = JOBS.c.subject.is_(None) | (JOBS.c.kind == SILENT)  # silent units ask models too


class FinishedJob(NamedTuple):
    """A job that ended at a time (ms), with its terminal event: a result, where it was answered. `application` is the
    version that it was resolved with, such as ticket-triage@3. `replays` is how often it had begun anew.
    """

    tenant: str
    ended_at: int
    result: Mapping[str, Any]
    application: str | None = None
    replays: int = 0


@dataclass(frozen=True, slots=True)
class Accounted:
    """Time (ms) up to which all jobs that ended are accounted for; `more` wait."""

    until: int
    more: bool


def account_settled(connection: Connection) -> bool:
    """Account for jobs that ended long enough ago, a bounded number; return whether there are more."""
    return account(connection, clock(connection) - LAG_MS).more


def account(connection: Connection, up_to: int) -> Accounted:
    """Account for jobs that ended up to this time (ms), a bounded number a call."""
    until = lock_time(connection)
    if up_to <= until:
        return Accounted(until, False)
    ends = connection.execute(
        _ends().where(JOBS.c.ended_at > until, JOBS.c.ended_at <= up_to).order_by(JOBS.c.ended_at).limit(AT_ONCE)
    ).all()
    more = len(ends) == AT_ONCE
    if more:  # perhaps not all of the last millisecond
        last = ends[-1].ended_at
        ends = [row for row in ends if row.ended_at < last]
        up_to = last - 1
        if not ends:
            ends, up_to = connection.execute(_ends().where(JOBS.c.ended_at == last)).all(), last
    _give(connection, ends)
    connection.execute(update(COUNTED).where(COUNTED.c.what == _WHAT).values(until=up_to))
    return Accounted(up_to, more)


def account_early(connection: Connection, ends: Sequence[Any]) -> None:
    """Account now for these jobs (rows of JOBS), which have ended and are about to begin anew."""
    until = lock_time(connection)
    _give(connection, [row for row in ends if row.terminal is not None and row.ended_at > until])


def accounted_until(connection: Connection) -> int:
    """Return the time (ms) up to which all jobs are accounted for."""
    return int(connection.execute(_until()).scalar() or 0)


def lock_time(connection: Connection) -> int:
    """Return the time (ms) up to which all jobs are accounted for, and let no other transaction account for any."""
    first = insert(connection, COUNTED).values(what=_WHAT, until=0)
    connection.execute(first.on_conflict_do_nothing())
    return int(connection.execute(_until().with_for_update()).scalar_one())


def _until() -> Any:
    return select(COUNTED.c.until).where(COUNTED.c.what == _WHAT)


def _ends() -> Any:
    columns = (
        JOBS.c.id,
        JOBS.c.tenant,
        JOBS.c.ended_at,
        JOBS.c.terminal,
        JOBS.c.state,
        JOBS.c.subject,
        JOBS.c.application,
        JOBS.c.replays,
    )
    return select(*columns).where(JOBS.c.ended_at.is_not(None), JOBS.c.terminal.is_not(None), _IS_COUNTED)


def _give(connection: Connection, ends: Iterable[Any]) -> None:
    rows = list(ends)
    known = take_known(connection, {row.id: row.ended_at for row in rows})
    jobs = [
        FinishedJob(
            row.tenant,
            row.ended_at,
            _with_known(from_json(bytes(row.terminal)), known.get(row.id, ())),
            row.application,
            row.replays,
        )
        for row in rows
    ]
    results = [job for job, row in zip(jobs, rows, strict=True) if row.state == "done" and row.subject is None]
    for feature in hooks() if jobs else ():
        if feature.on_ends is not None:
            feature.on_ends(connection, jobs)
        if feature.on_results is not None and results:
            feature.on_results(connection, results)


def _with_known(told: dict[str, Any], calls: Sequence[LostCall]) -> dict[str, Any]:
    """Return what an end told, with the known costs of these calls in place of their bounds."""
    for call in calls:
        bound, less = call.bound or 0, (call.bound or 0) - (call.amount or 0)
        cost = told["cost"]
        models = [model for model in cost["models"] if model["model"] == call.model]  # those of a long chain may be cut
        for model in (cost, *models):
            model["amount"] -= less
            model["bound"] -= bound
    return told


# Costs of lost calls that became known after all: their worker was only slow, and has the answer. The answer is thrown
# away, since another attempt owns the job, or the job was cancelled; but the true cost takes the place of the bound.
#
# Before the job's end it is on the receipt. A receipt that was published stays as it is, and says how much of it is a
# bound; what is spent of budgets and what is accounted for are corrected. Lock order: jobs, the time of the accounting
# (as a replay does), lost calls, and then what features keep. A second report finds nothing to change.

_CALL: Final = (LOST_CALLS.c.job_id == bindparam("job")) & (LOST_CALLS.c.claim_id == bindparam("claim"))
_NOW_KNOWN: Final = update(LOST_CALLS).where(_CALL).values(amount=bindparam("cost"))
_GONE: Final = delete(LOST_CALLS).where(_CALL)


@dataclass(frozen=True, slots=True)
class KnownCost:
    """A call that was charged with a bound, and cost an `amount`, in micro-units of a currency. `told_at` (ms) is when
    an end of its job told the bound; None while the job goes on. It `is_counted` if that end is accounted for.
    """

    job_id: str
    claim_id: int
    tenant: str
    model: str
    currency: str
    bound: int
    amount: int
    told_at: int | None = None
    is_counted: bool = False
    application: str | None = None


def learn(connection: Connection, claim_id: int, paid: Mapping[str, int]) -> list[KnownCost]:
    """Replace the bounds of the calls that were lost with this claim, one a job, by what they cost; return them. Jobs
    whose calls were not lost, or whose costs are known, are passed over.
    """
    job_ids = {call.job_id for call in _lost(connection, claim_id, sorted(paid))}
    if not job_ids:
        return []
    columns = (JOBS.c.id, JOBS.c.tenant, JOBS.c.ended_at, JOBS.c.application)
    query = select(*columns).where(among(connection, JOBS.c.id, sorted(job_ids))).order_by(JOBS.c.id)
    jobs = {row.id: row for row in connection.execute(query.with_for_update())}
    calls = _lost(connection, claim_id, sorted(jobs))  # now nobody else ends these jobs, or learns of them
    until = lock_time(connection) if any(call.told_at is not None for call in calls) else 0
    known = []
    for call in calls:
        job = jobs[call.job_id]
        is_last = call.told_at == job.ended_at  # another end has been accounted for: the job was replayed after it
        is_counted = call.told_at is not None and (not is_last or call.told_at <= until)
        known.append(
            KnownCost(
                call.job_id, claim_id, job.tenant, call.model, call.currency or "", call.bound or 0,
                paid[call.job_id], call.told_at, is_counted, job.application,
            )
        )  # fmt: skip
    _write(connection, known)
    for feature in hooks() if known else ():
        if feature.on_known_costs is not None:
            feature.on_known_costs(connection, known)
    return known


def _lost(connection: Connection, claim_id: int, job_ids: Sequence[str]) -> list[LostCall]:
    """Return the calls with a known price that were lost with this claim, and whose costs are not known."""
    query = select(*COLUMNS).where(
        among(connection, LOST_CALLS.c.job_id, job_ids), LOST_CALLS.c.claim_id == claim_id,
        LOST_CALLS.c.bound.is_not(None), LOST_CALLS.c.amount.is_(None),
    )  # fmt: skip
    return [LostCall._make(row) for row in connection.execute(query.order_by(LOST_CALLS.c.job_id))]


def _write(connection: Connection, known: Sequence[KnownCost]) -> None:
    over = [{"job": cost.job_id, "claim": cost.claim_id} for cost in known if cost.is_counted]
    open_ = [{"job": cost.job_id, "claim": cost.claim_id, "cost": cost.amount} for cost in known if not cost.is_counted]
    if over:
        connection.execute(_GONE, over)
    if open_:
        connection.execute(_NOW_KNOWN, open_)
