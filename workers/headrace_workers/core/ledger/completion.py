"""The end of a claim: one transaction writes the outcomes, what follows from them, and the events to publish.

The deletion of the claim's row decides: a worker that lost its lease deletes nothing, and so changes nothing. Claims
that end at the same time, as those of a remote model do one by one, are written together.

Lock order of all writers, here and everywhere: what is counted before a row is written (`alone`), batches, claims,
jobs, steps, review items with their assignments, documents, entries, audits, budgets, quotas, reservations, turns,
clocks, dead letters of refused records, positions; each of a kind in the order of their keys. Other rows to be written
are locked before the first row is written (`_hold_rows`); the quotas of jobs that end are settled last (see `last` in
database.py), and turns are given after them. Lost calls belong to the holder of their job's lock, and so do review
items, but for a writer that locks nothing after them; the time of the accounting is locked right after the jobs. The
holder of a step's claim changes a leased step, the holder of its job any other, so that no two wait for each other.
Writers that take only free rows (a bridge that claims, a delay that ends, deletion of old rows)
need no order. `tests/workers/core/ledger/test_deadlocks.py` runs all of them on the same rows.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    LargeBinary,
    String,
    bindparam,
    case,
    delete,
    func,
    select,
    text,
    update,
)

from headrace_workers.core.ledger.charges import Charge
from headrace_workers.core.ledger.claims import Claim, QueueRoom, assign, next_budget, put_tried
from headrace_workers.core.ledger.dead_letters import Burial, bury
from headrace_workers.core.ledger.hooks import Hooks, hooks
from headrace_workers.core.ledger.job_ends import (
    ActiveJob,
    concerned,
    ended,
    finish,
    lock_active,
    wake,
    wake_waiters_of_held,
)
from headrace_workers.core.ledger.model_calls import WantedCall, refused
from headrace_workers.core.ledger.outbox import Outgoing, put
from headrace_workers.core.ledger.outcome import (
    Dead,
    Done,
    Dropped,
    Ended,
    Held,
    JobEnd,
    Retry,
    Settled,
    StepWrite,
    Wait,
)
from headrace_workers.core.ledger.steps import STATES, NewStep, Tried, ready_at_latest
from headrace_workers.core.sql.database import among, bindparam_of, do_last, insert, many, now_ms, one_of
from headrace_workers.core.sql.statements import run
from headrace_workers.core.tables import BUDGETS, CLAIMS, DROPPED, STEPS

# Tuples, since Python builds a union anew each time that it comes to one.
_ENDS = (Ended, Dead, Dropped)
_OVER = (Done, Ended, Dropped)
_ANSWERED = (Done, Ended)
_ASIDE = (Wait, Held)


class StepResult(NamedTuple):
    """The outcome of a step, and where its job goes with it: all that the ledger writes of it.

    `records` are published in order, and the `following` steps are made. `end` is the terminal record of a job, and is
    published last. A step that is not done is ready again after `delay_ms`, at the latest; without a delay, when
    somebody wakes it. A retry takes place in another `queue`, with this `group_key`, `prefix` and `tokens`, where a
    queue is given; a `context` replaces the step's. `burial` is the end of a job that is dead.

    `call` is the call of a model that comes next, where its price is known. `refusal` is the end of the job where it
    may not make that call.

    `spent` is what the calls of a unit cost, in the form of a result.

    `charge` is of the call of a model that this step was; None where it asked none.

    `event` is what the job goes on with, for a worker that does so at once.
    """

    job_id: str
    outcome: Settled
    records: tuple[Outgoing, ...] = ()
    following: tuple[NewStep, ...] = ()
    end: Outgoing | None = None
    delay_ms: int | None = None
    queue: str | None = None
    group_key: str | None = None
    prefix: int | None = None
    tokens: int | None = None
    context: bytes | None = None
    burial: Burial | None = None
    call: WantedCall | None = None
    refusal: Burial | None = None
    spent: bytes | None = None
    charge: Charge | None = None
    event: object = None

    @property
    def paid(self) -> int | None:
        """Return what the step's call of a model did cost, in micro-units; None if it made none, or nobody knows."""
        return None if self.charge is None else self.charge.known

    @property
    def ends(self) -> bool:
        """Return True if it ends its job or its unit: nothing comes after that."""
        return isinstance(self.outcome, _ENDS) or (not self.following and isinstance(self.outcome, Done))


@dataclass(frozen=True, slots=True)
class Completed:
    """A claim that was ended: when by the database's clock (ms), the claims that follow, which are to be sent, and the
    results that jobs ended with. The answers of the jobs in `thrown_away` were not written: the jobs were cancelled.
    """

    now: int
    assigned: tuple[Claim, ...] = ()
    ended: tuple[Outgoing, ...] = ()
    thrown_away: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CompletedTogether:
    """The claims that were completed in one transaction, by their ids, and the claims that follow from all of them,
    which are to be sent.
    """

    of: Mapping[int, Completed]
    assigned: tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class RunOver:
    """A claim whose run is over, with the outcomes of its steps and the time that it took and was to take (ms)."""

    claim_id: int
    settled: Sequence[StepResult]
    ran_ms: int
    quantum_ms: int


class _Head(NamedTuple):
    """A claim as it was when it ended, and the time by the database's clock (ms)."""

    claim_id: int
    group_key: str
    full: bool
    tokens: int
    started_at: int
    size: int
    now: int


_ENDED = (
    CLAIMS.c.id,
    CLAIMS.c.group_key,
    CLAIMS.c.full,
    CLAIMS.c.tokens,
    CLAIMS.c.started_at,
    CLAIMS.c.size,
    now_ms(),
)
_END = delete(CLAIMS).where(CLAIMS.c.id == bindparam("claim")).returning(*_ENDED)
_DROP = update(STEPS).where(STEPS.c.job_id == bindparam("job")).values(state=DROPPED, reason=bindparam("why"))
_STAYS = bindparam("other_queue", type_=String).is_(None)
_RETRY = (
    update(STEPS)
    .where(STEPS.c.claim_id == bindparam("claim"), STEPS.c.job_id == bindparam("job"))
    .values(
        state=bindparam("how"),
        claim_id=None,
        ready_at=bindparam("again"),
        reason=bindparam("why"),
        queue=func.coalesce(bindparam("other_queue", type_=String), STEPS.c.queue),
        # Turns of one queue say nothing in another: there, work that was begun goes first.
        turn=case((_STAYS, STEPS.c.turn), else_=0),
        group_key=func.coalesce(bindparam("other_group", type_=String), STEPS.c.group_key),
        prefix=case((_STAYS, STEPS.c.prefix), else_=bindparam("other_prefix", type_=BigInteger)),
        tokens=func.coalesce(bindparam("other_tokens", type_=Integer), STEPS.c.tokens),
        context=func.coalesce(bindparam("other_context", type_=LargeBinary), STEPS.c.context),
        waited_since=case((_STAYS, STEPS.c.waited_since), else_=None),
    )
)
_PARK = (
    update(STEPS)
    .where(STEPS.c.claim_id == bindparam("claim"), STEPS.c.job_id == bindparam("job"))
    .values(
        state=bindparam("how"),
        claim_id=None,
        attempts=STEPS.c.attempts - 1,
        ready_at=bindparam("again"),
        held_at=func.coalesce(STEPS.c.held_at, bindparam("since", type_=BigInteger)),
        waited_since=func.coalesce(STEPS.c.waited_since, bindparam("waits", type_=BigInteger)),
        reason=bindparam("why"),
        waits_for=bindparam("whom"),
        context=func.coalesce(bindparam("other_context", type_=LargeBinary), STEPS.c.context),
    )
)


@lru_cache
def _end_several(dialect: str) -> Any:
    claims = one_of(dialect, CLAIMS.c.id, bindparam_of(dialect, CLAIMS.c.id, name="claims"))
    in_order = select(CLAIMS.c.id).where(claims).order_by(CLAIMS.c.id).with_for_update()
    return delete(CLAIMS).where(CLAIMS.c.id.in_(in_order)).returning(*_ENDED)


@lru_cache
def _done(dialect: str) -> Any:
    jobs = bindparam_of(dialect, STEPS.c.job_id, name="jobs")
    return (
        update(STEPS)
        .where(STEPS.c.claim_id == bindparam("claim"), one_of(dialect, STEPS.c.job_id, jobs))
        .values(
            state="done",
            claim_id=None,
            payload=None,
            context=None,
            started_at=bindparam("began"),
            ended_at=bindparam("ended"),
        )
        .returning(STEPS.c.job_id)
    )


# Of several claims at once, on PostgreSQL.
_DONE_OF_SEVERAL = text("""
    UPDATE steps SET state = 'done', claim_id = NULL, payload = NULL, context = NULL, started_at = gone.began,
        ended_at = :ended
    FROM unnest(CAST(:claim AS bigint[]), CAST(:job AS varchar[]), CAST(:began AS bigint[]))
        AS gone (claim, job, began)
    WHERE steps.job_id = gone.job AND steps.claim_id = gone.claim
    RETURNING steps.job_id
""")


def complete(
    connection: Connection,
    claim_id: int,
    settled: Sequence[StepResult],
    *,
    ran_ms: int,
    quantum_ms: int,
    room: QueueRoom | None = None,
) -> Completed | None:
    """Write the results of a claim; None when the lease was lost, and nothing was changed."""
    over = complete_together(connection, [RunOver(claim_id, settled, ran_ms, quantum_ms)], room)
    return over.of.get(claim_id) and replace(over.of[claim_id], assigned=over.assigned)


def complete_together(
    connection: Connection, runs: Sequence[RunOver], room: QueueRoom | None = None
) -> CompletedTogether:
    """Write the results of several claims, as if each were completed alone; no job is in two of them."""
    heads = _end(connection, [run_over.claim_id for run_over in runs])
    if not heads:
        return CompletedTogether({}, ())
    runs = [run_over for run_over in runs if run_over.claim_id in heads]
    now = next(iter(heads.values())).now
    claim_of = {item.job_id: run_over.claim_id for run_over in runs for item in run_over.settled}
    settled = answered = [item for run_over in runs for item in run_over.settled]
    active = lock_active(connection, [item.job_id for item in settled if item.ends or item.burial or item.call])
    settled = [item for item in settled if item.job_id in active or not item.ends]
    again = [item.job_id for item in settled if item.call and item.job_id in active and not item.following]
    _hold_rows(connection, (), concerned(active, again), active)
    done = _advance(connection, heads, claim_of, settled, now, active)
    later = _retry(connection, claim_of, settled, now) + _park(connection, claim_of, settled, now)
    over = _refused_calls(connection, [item for item in settled if item.job_id in {*done, *again}], active)
    following = [step for item in done.values() for step in _let_in(item, over, now)]
    put_tried(connection, following, now)
    wake_waiters_of_held(connection, _held(done.values(), settled))
    burials = [item.burial for item in settled if item.burial and item.job_id in active] + list(over.values())
    dead = _bury(connection, list(heads), burials, done.keys() | over.keys(), now)
    if len(done.keys() | (dead - over.keys())) + later < sum(head.size for head in heads.values()):
        _cancel(connection, list(heads), now)  # the jobs of the rest were cancelled meanwhile
    _learn(connection, runs, heads)
    do_last(connection)
    assigned = assign(connection, following, room, now)
    ended: dict[int, list[Outgoing]] = {claim_id: [] for claim_id in heads}
    for job_id, item in done.items():
        if item.end is not None:
            ended[claim_of[job_id]].append(item.end)
    thrown_away: dict[int, list[str]] = {claim_id: [] for claim_id in heads}
    for item in answered:
        if item.job_id not in done and isinstance(item.outcome, _ANSWERED):
            thrown_away[claim_of[item.job_id]].append(item.job_id)
    return CompletedTogether(
        {
            claim_id: Completed(now, ended=tuple(ends), thrown_away=tuple(thrown_away[claim_id]))
            for claim_id, ends in ended.items()
        },
        assigned,
    )


def _end(connection: Connection, claim_ids: Sequence[int]) -> dict[int, _Head]:
    """Delete these claims; return the ones that were still there."""
    if len(claim_ids) == 1:
        rows = run(connection, _END, {"claim": claim_ids[0]})
    else:
        rows = run(connection, _end_several(connection.dialect.name), {"claims": list(claim_ids)})
    return {head.claim_id: head for head in map(_Head._make, rows)}


def _advance(
    connection: Connection,
    heads: Mapping[int, _Head],
    claim_of: Mapping[str, int],
    settled: Sequence[StepResult],
    now: int,
    active: Mapping[str, ActiveJob],
) -> dict[str, StepResult]:
    """Write the steps that are done, the ends of jobs, and the events to publish. Return, by job, the steps that these
    claims still held: they have lost the step of a job that was cancelled, or that died and was replayed, meanwhile.
    """
    done = [item for item in settled if isinstance(item.outcome, _OVER)]
    if not done:
        return {}
    held = _write_done(connection, heads, claim_of, [item.job_id for item in done], now)
    done = [item for item in done if item.job_id in held]
    rows = [row for item in done if isinstance(item.outcome, _ANSWERED) for row in item.outcome.rows]
    ending = [item.job_id for item in done if item.ends or (item.call and item.job_id in active)]  # or may be refused
    _hold_rows(connection, rows, concerned(active, ending), active)
    for row in rows:
        row.write(connection)
    records = [record for item in done for record in item.records]
    dropped = {item.job_id: item.outcome.reason for item in done if isinstance(item.outcome, Dropped)}
    over = [(item.job_id, item.end) for item in done if item.ends and item.job_id not in dropped]
    spent = {item.job_id: item.spent for item in done if item.spent is not None}
    told = finish(connection, "done", over, now, active, records, spent)
    _drop(connection, dropped, now, active)
    return {item.job_id: item._replace(end=told[item.job_id]) if item.job_id in told else item for item in done}


def _write_done(
    connection: Connection, heads: Mapping[int, _Head], claim_of: Mapping[str, int], job_ids: Sequence[str], now: int
) -> frozenset[str]:
    """Write the steps of these jobs as done; return the jobs whose claims still held them."""
    theirs: dict[int, list[str]] = {}
    for job_id in job_ids:
        theirs.setdefault(claim_of[job_id], []).append(job_id)
    dialect = connection.dialect.name
    if len(theirs) > 1 and dialect == "postgresql":
        columns = [
            {"claim": claim_of[job_id], "job": job_id, "began": heads[claim_of[job_id]].started_at}
            for job_id in job_ids
        ]
        found = run(connection, _DONE_OF_SEVERAL, many(dialect, columns) | {"ended": now})
        return frozenset(job_id for (job_id,) in found)
    return frozenset(
        job_id
        for claim_id, jobs in theirs.items()
        for (job_id,) in run(
            connection,
            _done(dialect),
            {"claim": claim_id, "jobs": jobs, "began": heads[claim_id].started_at, "ended": now},
        )
    )


def _hold_rows(
    connection: Connection,
    rows: Sequence[StepWrite],
    ending: Mapping[Hooks, Sequence[str]],
    active: Mapping[str, ActiveJob],
) -> None:
    """Lock what these rows will change, and what will change with the jobs that are ending, before any is written.

    Rows come in the order of their jobs. Written one by one they would lock in that order, and two groups that touch
    the same in different orders would wait for each other.
    """
    if rows or ending:
        tenants = {job.tenant for job in active.values()}
        for feature in hooks():
            if feature.hold_rows is not None:
                feature.hold_rows(connection, rows, ending.get(feature, ()), tenants)


def _refused_calls(
    connection: Connection, settled: Sequence[StepResult], active: Mapping[str, ActiveJob]
) -> dict[str, Burial]:
    """Let features reserve for the calls that follow; return the ends of the jobs that may not make theirs."""
    calls = {item.job_id: item.call for item in settled if item.call is not None}
    reasons = refused(connection, calls, active) if calls else {}
    ends = {item.job_id: item.refusal for item in settled}
    return {
        job_id: replace(end, reason=reason + end.reason)
        for job_id, reason in reasons.items()
        if (end := ends[job_id]) is not None
    }


def _let_in(item: StepResult, over: Mapping[str, Burial], now: int) -> tuple[NewStep, ...]:
    """Return the steps that follow, the last of them dead where its call is refused: a replay begins there."""
    end = over.get(item.job_id)
    if end is None or not item.following:
        return item.following
    *before, last = item.following
    return (*before, last._replace(tried=Tried(now, Dead(end.category, end.reason))))


def _drop(connection: Connection, reasons: Mapping[str, str], now: int, active: Mapping[str, ActiveJob]) -> None:
    """End these units, whose steps are over, as `dropped`."""
    if reasons:
        finish(connection, DROPPED, [(job_id, None) for job_id in reasons], now, active)
        connection.execute(_DROP, [{"job": job_id, "why": why[:2_000]} for job_id, why in reasons.items()])


def _retry(connection: Connection, claim_of: Mapping[str, int], settled: Sequence[StepResult], now: int) -> int:
    """Let the steps that are to be tried again wait, or be ready in another queue; return how many."""
    later = [
        {
            "claim": claim_of[item.job_id],
            "job": item.job_id,
            "how": "ready" if item.queue is not None and not item.delay_ms else "waiting",
            "again": now + (item.delay_ms or 0),
            "why": item.outcome.reason[:2_000],
            "other_queue": item.queue,
            "other_group": item.group_key,
            "other_prefix": item.prefix,
            "other_tokens": item.tokens,
            "other_context": item.context,
        }
        for item in settled
        if isinstance(item.outcome, Retry)
    ]
    if later:
        connection.execute(_RETRY, later)
    return len(later)


def _park(connection: Connection, claim_of: Mapping[str, int], settled: Sequence[StepResult], now: int) -> int:
    """Put the steps aside that wait or are held; return how many. A job that a step waits for may have ended meanwhile:
    then the step is ready again at once.
    """
    waited_for = {item.job_id: item.outcome.until for item in settled if isinstance(item.outcome, Wait)}
    parked = [
        {
            "claim": claim_of[item.job_id],
            "job": item.job_id,
            "how": STATES[type(item.outcome)],
            "again": ready_at_latest(now, item.delay_ms),
            "since": now if isinstance(item.outcome, Held) else None,
            "waits": now if isinstance(item.outcome, Wait) else None,
            "why": item.outcome.reason[:2_000],
            "whom": until.key if (until := waited_for.get(item.job_id)) else None,
            "other_context": item.context,
        }
        for item in settled
        if isinstance(item.outcome, _ASIDE)
    ]
    if parked:
        connection.execute(_PARK, parked)
        put(connection, [record for item in settled if isinstance(item.outcome, Held) for record in item.records])
        wake(
            connection, ended(connection, [until.job_id for until in waited_for.values() if isinstance(until, JobEnd)])
        )
    return len(parked)


def _held(done: Iterable[StepResult], settled: Iterable[StepResult]) -> dict[str, bool]:
    """Return the jobs that are held from here on, at this step or at one that was tried after it; True for those that
    wait for a person.
    """
    behind = ((step.job_id, step.tried.outcome) for item in done for step in item.following if step.tried)
    now = ((item.job_id, item.outcome) for item in settled)
    return {job_id: outcome.needs_person for job_id, outcome in (*behind, *now) if isinstance(outcome, Held)}


def _bury(
    connection: Connection, claim_ids: Sequence[int], burials: list[Burial], advanced: Collection[str], now: int
) -> frozenset[str]:
    """End jobs in `dead`: at a step of these claims, or, if a job has `advanced`, at the later step that was tried."""
    if not burials:
        return frozenset()
    theirs = among(connection, STEPS.c.claim_id, claim_ids)
    held = frozenset(connection.execute(select(STEPS.c.job_id).where(theirs)).scalars())
    return bury(connection, [burial for burial in burials if burial.job_id in held or burial.job_id in advanced], now)


def _cancel(connection: Connection, claim_ids: Sequence[int], now: int) -> None:
    """Put the steps away that these claims still hold."""
    theirs = among(connection, STEPS.c.claim_id, claim_ids)
    connection.execute(update(STEPS).where(theirs).values(state="cancelled", claim_id=None, ended_at=now))


def _learn(connection: Connection, runs: Sequence[RunOver], heads: Mapping[int, _Head]) -> None:
    """Learn from full and from slow groups how many tokens fit a quantum."""
    for run_over in sorted(runs, key=lambda run: heads[run.claim_id].group_key):  # they lock in this order
        head = heads[run_over.claim_id]
        if head.full or run_over.ran_ms > run_over.quantum_ms:
            tokens = next_budget(head.tokens, run_over.ran_ms / 1000, run_over.quantum_ms / 1000)
            lesson = {"tokens": tokens, "learnt_at": head.now}
            statement = insert(connection, BUDGETS).values(group_key=head.group_key, **lesson)
            connection.execute(statement.on_conflict_do_update(index_elements=["group_key"], set_=lesson))
