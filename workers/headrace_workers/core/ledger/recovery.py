"""Work that a bridge does by time: recover what is overdue, decide about held steps, and delete old rows."""

import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, case, delete, func, or_, select, text, tuple_, update

from headrace_schemas import Category
from headrace_schemas.errors import InvalidRecord
from headrace_workers.core.ledger import accepted, accounting, change_feed, incidents
from headrace_workers.core.ledger import fair_queueing as turns
from headrace_workers.core.ledger.accounting import account
from headrace_workers.core.ledger.charges import cost_of
from headrace_workers.core.ledger.claims import LARGEST_BYTES, within_budget
from headrace_workers.core.ledger.dead_letters import BURIED, Burial, bury, job_burial
from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.ledger.job_ends import ActiveJob, concerned, lock_active, wake
from headrace_workers.core.ledger.leases import release
from headrace_workers.core.ledger.model_calls import asking, call_again, note_lost
from headrace_workers.core.ledger.outcome import Dead
from headrace_workers.core.pipeline.task import CORRECTED, HELD, WrongOutcome, pack, unpack
from headrace_workers.core.sql.database import among, clock, now_ms
from headrace_workers.core.sql.paging import AT_ONCE, delete_some, lock_some
from headrace_workers.core.sql.statements import run
from headrace_workers.core.tables import (
    BUDGETS,
    CLAIMS,
    DEAD_LETTERS,
    IS_HELD,
    IS_PARKED,
    IS_WAITING,
    JOBS,
    MAY_EXPIRE,
    NEVER,
    OUTBOX,
    RELEASED,
    STEPS,
)

_AT_ONCE = 500
EXPIRED_AT_ONCE = 1_000
MANY = 10_000  # of what costs little

# A worker may run several claims side by side, and its death does not say which of them was the cause. So a death
# counts this many times more against a step that was all that its worker ran; and steps that died in company come back
# at different times, so that the innocent are not beside the culprit again and again.
_ALONE = 4
_FIRST_SPREAD, _LONGEST_SPREAD = 1_000, 30_000  # ms


@dataclass(frozen=True, slots=True)
class Reaped:
    """Steps that one reap changed: given back unstarted, given back after a worker died, and dead as poison; made ready
    after a delay, and ended by their deadline; whether there may be `more` of these.
    """

    unstarted: int = 0
    crashed: int = 0
    poison: int = 0
    promoted: int = 0
    expired: int = 0
    more: bool = False


@dataclass(frozen=True, slots=True)
class Due:
    """Flags: a lease has run out; a delay, a deadline, what a step waits for, or something that a feature waits for,
    has ended.
    """

    leases: bool
    steps: bool


# A clock that is read for each row would keep its index from being used.
_NOW = select(now_ms()).scalar_subquery()


def due(connection: Connection) -> Due:
    """Return True if there is anything to do here, in one read: mostly there is not. Rows that others hold count,
    too."""
    ((leases, steps),) = run(connection, _due(), {})
    return Due(bool(leases), bool(steps))


@lru_cache
def _due() -> Any:
    ended = JOBS.c.ended_at.is_not(None)
    return select(
        select(CLAIMS.c.id).where(CLAIMS.c.lease_until < _NOW).exists().label("leases"),
        or_(
            select(STEPS.c.job_id).where(IS_WAITING, STEPS.c.ready_at <= _NOW).exists(),
            select(STEPS.c.job_id).where(IS_PARKED, STEPS.c.ready_at <= _NOW).exists(),
            select(STEPS.c.job_id).where(IS_HELD, STEPS.c.ready_at <= _NOW).exists(),
            select(STEPS.c.job_id).where(MAY_EXPIRE, STEPS.c.deadline < _NOW).exists(),
            *(feature.is_due(_NOW) for feature in hooks() if feature.is_due is not None),
            select(STEPS.c.job_id).where(IS_PARKED, STEPS.c.waits_for == JOBS.c.id, ended).exists(),
        ).label("steps"),
    )


def promote(connection: Connection) -> int:
    """Make the steps ready whose delay has ended, a bounded number a call. Steps that others hold come later."""
    due = select(STEPS.c.job_id, STEPS.c.stage).where(IS_WAITING, STEPS.c.ready_at <= now_ms()).limit(MANY)
    steps: dict[str, list[str]] = {}
    for job_id, stage in connection.execute(due.with_for_update(skip_locked=True)):
        steps.setdefault(stage, []).append(job_id)
    for stage, jobs in steps.items():
        connection.execute(
            update(STEPS)
            .where(among(connection, STEPS.c.job_id, jobs), STEPS.c.stage == stage, STEPS.c.state == "waiting")
            .values(state="ready")
        )
    return sum(map(len, steps.values()))


def retry_held(connection: Connection) -> int:
    """Make the steps ready that are held until something works, and are to be tried again, a bounded number a call."""
    due = select(STEPS.c.job_id).where(IS_HELD, STEPS.c.ready_at <= now_ms()).order_by(STEPS.c.ready_at).limit(_AT_ONCE)
    jobs = list(connection.execute(due.with_for_update(skip_locked=True)).scalars())
    if not jobs:
        return 0
    again = update(STEPS).where(IS_HELD, among(connection, STEPS.c.job_id, jobs), STEPS.c.ready_at <= now_ms())
    return connection.execute(again.values(state="ready")).rowcount


def wake_missed(connection: Connection) -> int:
    """Make ready the steps that wait for a job which ended while they began to wait. Do the same for steps that have
    waited for as long as they said, with all steps that wait for the same job.
    """
    query = select(STEPS.c.waits_for).join(JOBS, JOBS.c.id == STEPS.c.waits_for)
    missed = connection.execute(query.where(IS_PARKED, JOBS.c.ended_at.is_not(None)).limit(MANY)).scalars()
    late = select(STEPS.c.waits_for).where(IS_PARKED, STEPS.c.ready_at <= now_ms(), STEPS.c.waits_for.is_not(None))
    woken = wake(connection, sorted({*missed, *connection.execute(late.limit(MANY)).scalars()}))
    return woken + _wake_on_time(connection)


def _wake_on_time(connection: Connection) -> int:
    """Make the steps ready that wait for nothing but a time, which has come, a bounded number a call."""
    is_due = and_(IS_PARKED, STEPS.c.waits_for.is_(None), STEPS.c.ready_at <= now_ms())
    due = select(STEPS.c.job_id).where(is_due).order_by(STEPS.c.ready_at).limit(_AT_ONCE)
    jobs = list(connection.execute(due.with_for_update(skip_locked=True)).scalars())
    if not jobs:
        return 0
    ready = update(STEPS).where(is_due, among(connection, STEPS.c.job_id, jobs)).values(state="ready")
    return connection.execute(ready).rowcount


def reap(connection: Connection, max_crashes: int) -> Reaped:
    """Take back the steps of claims whose lease ran out, and everything else that dead workers had begun.

    A group whose worker died is split in two, so that a step that kills its worker soon stands alone; only what
    killed its worker `max_crashes` times alone is poison. A claim that no worker began is given back as it was, and so
    is one whose worker lives: it has let go of it, and could not say so.
    """
    dropped, died = _lost(connection)
    begun = [claim.id for claim in (*dropped, *died) if claim.started_at is not None]
    company = Counter(claim.worker for claim in died)
    steps = _steps(connection, [claim.id for claim in died])
    poisonous = [
        claim.id for claim in died if _is_poison(steps.get(claim.id, ()), max_crashes, alone=company[claim.worker] == 1)
    ]
    ending = [row.job_id for claim_id in poisonous for row in steps[claim_id]]
    lost, active = _lost_calls(connection, begun, ending)
    unstarted = release(connection, [claim.id for claim in dropped])
    connection.execute(delete(CLAIMS).where(among(connection, CLAIMS.c.id, [claim.id for claim in died])))
    reason = "its worker died or hung again and again while it ran this job"
    theirs = among(connection, STEPS.c.claim_id, poisonous)
    poison = burials(connection, theirs, Category.POISON, reason) if poisonous else []
    crashed = 0
    for claim in died:
        if claim.id not in poisonous:
            rows = steps.get(claim.id, ())
            _split(connection, claim.id, rows, claim.worker or "?", alone=company[claim.worker] == 1)
            crashed += len(rows)
    buried = bury(connection, poison, clock(connection), active)
    _end_refused(connection, lost, active, buried)
    return Reaped(unstarted, crashed, len(buried))


def give_back(connection: Connection, claim_ids: Sequence[int]) -> int:
    """Give back claims whose worker ends, as `release` does; return the number of steps. The calls that it had begun
    are charged.
    """
    begun = select(CLAIMS.c.id).where(
        among(connection, CLAIMS.c.id, sorted(claim_ids)), CLAIMS.c.started_at.is_not(None)
    )
    ordered = begun.order_by(CLAIMS.c.id).with_for_update()
    lost, active = _lost_calls(connection, list(connection.execute(ordered).scalars()) if claim_ids else [])
    steps = release(connection, claim_ids)
    _end_refused(connection, lost, active)
    return steps


def _lost_calls(
    connection: Connection, claim_ids: Sequence[int], ending: Sequence[str] = ()
) -> tuple[list[Any], dict[str, ActiveJob]]:
    """Charge the calls of these claims; return the steps that were asking a model, and their jobs with those that are
    `ending`. The jobs are locked, with all that may change with their ends: who locked the rest later would break the
    lock order.
    """
    lost = asking(connection, claim_ids)
    active = lock_active(connection, sorted({*ending, *(row.job_id for row in lost)}))
    for feature, job_ids in concerned(active, sorted(active)).items():
        if feature.hold_rows is not None:
            feature.hold_rows(connection, (), job_ids, ())
    note_lost(connection, lost, active)
    return lost, active


def _end_refused(
    connection: Connection, lost: Sequence[Any], active: dict[str, ActiveJob], dead: Collection[str] = ()
) -> None:
    """Reserve for the calls that follow lost ones, except for jobs that are dead by now, and end the jobs that may not
    call again.
    """
    ends = call_again(connection, [row for row in lost if row.job_id not in dead], active)
    if ends:
        bury(connection, ends, clock(connection), active)


def _lost(connection: Connection) -> tuple[list[Any], list[Any]]:
    """Return the claims whose lease ran out and that no dead worker had begun, and all that dead workers had begun."""
    columns = select(CLAIMS.c.id, CLAIMS.c.started_at, CLAIMS.c.worker, CLAIMS.c.renewed_at, CLAIMS.c.lease_until)
    ended = columns.where(CLAIMS.c.lease_until < now_ms()).limit(_AT_ONCE)
    # Locked claims are being renewed, or taken back by another bridge.
    expired = list(connection.execute(ended.with_for_update(skip_locked=True)))
    begun = [claim for claim in expired if claim.started_at is not None]
    silent = {claim.worker: claim for claim in sorted(begun, key=lambda claim: claim.renewed_at)}
    if not silent:
        return expired, []
    seen = {claim.id for claim in expired}
    theirs = connection.execute(columns.where(among(connection, CLAIMS.c.worker, list(silent))))
    others = [claim for claim in theirs if claim.id not in seen]
    living = {claim.worker for claim in others if _outlived(claim, silent[claim.worker])}
    died = [claim for claim in begun if claim.worker not in living]
    rest = [claim.id for claim in others if claim.worker not in living]
    if rest:
        taken = columns.where(among(connection, CLAIMS.c.id, rest))
        died += connection.execute(taken.with_for_update(skip_locked=True))
    return [claim for claim in expired if claim.started_at is None or claim.worker in living], died


def _outlived(claim: Any, expired: Any) -> bool:
    """Return whether a claim shows that its worker lived on when it had fallen silent about another.

    All that a worker holds is renewed together, three times a lease: what was renewed half a lease later was so by a
    worker that had let go of the other.
    """
    return bool(claim.renewed_at > (expired.renewed_at + expired.lease_until) / 2)


def _steps(connection: Connection, claim_ids: Sequence[int]) -> dict[int, list[Any]]:
    """Return the steps of these claims, the most urgent first, by claim."""
    query = select(STEPS.c.claim_id, STEPS.c.job_id, STEPS.c.crashes)
    query = query.where(among(connection, STEPS.c.claim_id, claim_ids))
    found: dict[int, list[Any]] = {}
    for row in connection.execute(query.order_by(STEPS.c.rank, STEPS.c.due, STEPS.c.turn, STEPS.c.job_id)):
        found.setdefault(row.claim_id, []).append(row)
    return found


def _crashes(step: Any, *, alone: bool) -> int:
    """Return the crashes of a step that stood alone in its claim, with the one of now."""
    return int(step.crashes) + (_ALONE if alone else 1)


def _is_poison(steps: Sequence[Any], max_crashes: int, *, alone: bool) -> bool:
    """Return True if these are one step, which has killed its worker often enough."""
    return len(steps) == 1 and _crashes(steps[0], alone=alone) >= max_crashes * _ALONE


def _split(connection: Connection, claim_id: int, rows: Sequence[Any], worker: str, *, alone: bool) -> None:
    """Give back the steps that a dead worker ran, in two groups where there are several."""
    why = f"the lease ran out while {worker} ran it: the worker died or hung"
    if len(rows) == 1:
        crashes = _crashes(rows[0], alone=alone)
        later = {} if alone else {"state": "waiting", "ready_at": now_ms() + _apart(rows[0].job_id, crashes)}
        _return(connection, claim_id, rows, {"reason": why, "crashes": crashes, **later})
        return
    half = (len(rows) + 1) // 2
    for suffix, part in (("~0", rows[:half]), ("~1", rows[half:])):
        _return(connection, claim_id, part, {"reason": why, "group_key": STEPS.c.group_key + suffix})


def _return(connection: Connection, claim_id: int, rows: Sequence[Any], values: dict[str, Any]) -> None:
    if rows:
        connection.execute(
            update(STEPS)
            .where(STEPS.c.claim_id == claim_id, among(connection, STEPS.c.job_id, [row.job_id for row in rows]))
            .values({"state": "ready", "claim_id": None, **values})
        )


def _apart(job_id: str, crashes: int) -> int:
    """Return how many ms a step waits that died in company: another number for each job and each time."""
    spread = min(_LONGEST_SPREAD, _FIRST_SPREAD << crashes)
    return zlib.crc32(f"{job_id} {crashes}".encode()) % spread


def expire(connection: Connection) -> int:
    """End the jobs whose deadline passed while they waited, bounded in number and bytes."""
    where = and_(STEPS.c.deadline < now_ms(), MAY_EXPIRE)
    late = connection.execute(select(STEPS.c.job_id, STEPS.c.read_bytes).where(where).limit(EXPIRED_AT_ONCE)).all()
    if not late:
        return 0
    late = late[: within_budget([step.read_bytes for step in late], LARGEST_BYTES)]
    active = lock_active(connection, [step.job_id for step in late])
    # A bridge may have claimed a step, or be about to: steps that are free are kept from it, the others come later.
    waiting = select(STEPS.c.job_id).where(where, among(connection, STEPS.c.job_id, sorted(active)))
    free = list(connection.execute(waiting.with_for_update(skip_locked=True)).scalars())
    reason = "the deadline passed before a worker could take it"
    ends = burials(connection, and_(where, among(connection, STEPS.c.job_id, free)), Category.EXPIRED, reason)
    return len(bury(connection, ends, clock(connection), active))


def burials(connection: Connection, where: Any, category: Category, reason: str) -> list[Burial]:
    """Return the ends in `dead` of the jobs whose steps these are, a bounded number."""
    query = select(*BURIED, STEPS.c.context).join(JOBS, JOBS.c.id == STEPS.c.job_id).where(where).limit(EXPIRED_AT_ONCE)
    dead = Dead(category, reason)
    return [job_burial(row, row.stage, dead, cost_of(row.context)) for row in connection.execute(query)]


_COLUMNS: Final = (
    STEPS.c.job_id, JOBS.c.tenant, STEPS.c.stage, STEPS.c.reason, STEPS.c.held_at.label("since"),
    STEPS.c.ready_at.label("again"),
)  # fmt: skip


def held(
    connection: Connection, limit: int = 100, tenant: str | None = None, after: tuple[int, str] | None = None
) -> list[Row[Any]]:
    """Return the held steps, of all tenants or of one, longest first: job, tenant, stage, reason, since when (ms), and
    when each is tried again by itself; NEVER if a person must decide. `after`, a time and a job: only steps after it.
    """
    query = select(*_COLUMNS).join(JOBS, JOBS.c.id == STEPS.c.job_id).where(IS_HELD)
    if tenant is not None:
        query = query.where(JOBS.c.tenant == tenant)
    if after is not None:
        query = query.where(tuple_(STEPS.c.held_at, STEPS.c.job_id) > after)
    return [*connection.execute(query.order_by(STEPS.c.held_at, STEPS.c.job_id).limit(limit))]


def of_job(connection: Connection, job_id: str) -> Row[Any] | None:
    """Return the held steps of a job, with all that each is given: kind and payload of the job, and the event that
    brought it there, None for the job itself.
    """
    given = (JOBS.c.kind, JOBS.c.payload, STEPS.c.event_type, STEPS.c.payload.label("event"))
    columns: list[ColumnElement[Any]] = [*_COLUMNS, *given]
    query = select(*columns).join(JOBS, JOBS.c.id == STEPS.c.job_id).where(IS_HELD, STEPS.c.job_id == job_id)
    return connection.execute(query).first()


def still_held(connection: Connection, since: Mapping[str, int]) -> list[str]:
    """Lock those of these jobs that are held since the time (ms) that is given for each, and return them."""
    alive = sorted(lock_active(connection, sorted(since)))
    query = select(STEPS.c.job_id, STEPS.c.held_at).where(IS_HELD, among(connection, STEPS.c.job_id, alive))
    return sorted({row.job_id for row in connection.execute(query) if row.held_at == since[row.job_id]})


def release_held(connection: Connection, job_ids: Sequence[str]) -> int:
    """Make the held steps of these jobs ready again; return how many. A step that was held for review knows that it was
    released.
    """
    woken_by = case((STEPS.c.ready_at >= NEVER, RELEASED), else_=STEPS.c.woken_by)
    alive = sorted(lock_active(connection, job_ids))
    return connection.execute(
        update(STEPS)
        .where(IS_HELD, among(connection, STEPS.c.job_id, alive))
        .values(state="ready", ready_at=now_ms(), reason=None, woken_by=woken_by, held_at=None)
    ).rowcount


def correct_held(connection: Connection, job_id: str, text: str) -> None:
    """Make the held step of this job ready again, with the text that a person wrote instead of what is held. Raise
    InvalidRecord where the step cannot take so much.
    """
    mine = IS_HELD & (STEPS.c.job_id == job_id)
    query = select(STEPS.c.stage, STEPS.c.ordinal, STEPS.c.context)
    for step in connection.execute(query.where(mine)).all():
        context, unpublished = unpack(step.context)
        try:
            value = pack({**context, HELD: {CORRECTED: text}}, unpublished)
        except WrongOutcome as error:
            raise InvalidRecord(f"the corrected text is too long for this job, whose step {error}") from None
        more = len(value or b"") - len(step.context or b"")
        this = mine & (STEPS.c.stage == step.stage) & (STEPS.c.ordinal == step.ordinal)
        connection.execute(update(STEPS).where(this).values(context=value, read_bytes=STEPS.c.read_bytes + more))
    release_held(connection, [job_id])


def withhold(connection: Connection, job_ids: Sequence[str], reason: str) -> frozenset[str]:
    """End the held jobs as dead; return their ids. Nobody is given their answers any more."""
    alive = sorted(lock_active(connection, job_ids))
    mine = IS_HELD & among(connection, STEPS.c.job_id, alive)
    return _withhold(connection, mine, Category.PERMANENT, reason)


def withhold_late(connection: Connection, longest_ms: int) -> int:
    """End, as dead, what has been held for longer than this, a bounded number a call; return how many."""
    late = IS_HELD & (STEPS.c.held_at < now_ms() - longest_ms)
    jobs = list(connection.execute(select(STEPS.c.job_id).where(late).limit(_AT_ONCE)).scalars())
    if not jobs:
        return 0
    mine = late & among(connection, STEPS.c.job_id, sorted(lock_active(connection, jobs)))
    reason = f"it was held for longer than HEADRACE_HOLD, {longest_ms / 1000:g} seconds"
    return len(_withhold(connection, mine, Category.EXPIRED, reason))


def _withhold(connection: Connection, which: ColumnElement[bool], category: Category, reason: str) -> frozenset[str]:
    ended = bury(connection, burials(connection, which, category, f"withheld: {reason}"), clock(connection))
    if ended:
        for feature in hooks():
            if feature.on_withheld is not None:
                feature.on_withheld(connection, sorted(ended), f"withheld: {reason}")
    return ended


def prune(connection: Connection, older_than_ms: int) -> bool:
    """Forget a bounded number of old rows of each kind; return True if there are more.

    Delete jobs and units that ended so long ago, with their steps and dead letters, dead letters of records that never
    became jobs, what was learnt of groups and tenants, changes, and features' rows. Rows that another transaction holds
    stay.
    """
    before = now_ms() - older_than_ms
    # The record of a job's usage outlives it.
    counted = account(connection, clock(connection) - older_than_ms)
    ended = (JOBS.c.ended_at < before) & (JOBS.c.ended_at <= counted.until)
    more = counted.more | _forget_jobs(connection, ended)
    more |= accepted.forget(connection, older_than_ms)
    for feature in hooks():
        if feature.on_prune is not None:
            more |= feature.on_prune(connection, older_than_ms)
    incidents.forget(connection)
    change_feed.forget_positions(connection)
    never_a_job = ~select(JOBS.c.id).where(JOBS.c.id == DEAD_LETTERS.c.job_id).exists()
    more |= delete_some(connection, DEAD_LETTERS.c.id, (DEAD_LETTERS.c.died_at < before) & never_a_job)
    more |= delete_some(connection, BUDGETS.c.group_key, BUDGETS.c.learnt_at < before)
    more |= change_feed.forget_changes(connection)
    return turns.forget(connection) or more


def _forget_jobs(connection: Connection, old: ColumnElement[bool]) -> bool:
    """Forget a bounded number of these jobs or units; return True if there may be more.

    A job stays while an event of it, or of its subject, is set aside: someone has yet to see to the event, and will ask
    which job it belongs to; and when the event is published after all, no unit is made a second time. A job with an
    open unit stays, and so does a line of a batch whose output does not hold it yet.
    """
    about = OUTBOX.c.key == func.coalesce(JOBS.c.subject, JOBS.c.id)
    untold = select(OUTBOX.c.id).where(about, text("outbox.set_aside_at IS NOT NULL")).exists()
    unit = JOBS.alias("unit")
    is_open = text("unit.state = 'active' AND unit.subject IS NOT NULL")
    followed = select(unit.c.id).where(unit.c.subject == JOBS.c.id, is_open).exists()
    jobs = lock_some(connection, JOBS.c.id, old & JOBS.c.batch.is_(None) & ~untold & ~followed)
    if jobs:
        for column in (STEPS.c.job_id, DEAD_LETTERS.c.job_id):
            connection.execute(delete(column.table).where(among(connection, column, jobs)))
        accounting.forget(connection, jobs)
        for feature in hooks():
            if feature.on_forget_jobs is not None:
                feature.on_forget_jobs(connection, jobs)
        connection.execute(delete(JOBS).where(among(connection, JOBS.c.id, jobs)))
    return len(jobs) == AT_ONCE
