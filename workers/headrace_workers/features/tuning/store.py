"""Tuning runs as the ledger keeps them: their states, events and checkpoints.

A run begins with its job, in the transaction that takes the job in, and ends in the transaction that ends the job. They
are kept until the tuned model is deleted, or, without one, as long as jobs are.

Lock order: a run comes after all that `completion.py` names before quotas; runs are locked in the order of their jobs.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import from_json
from sqlalchemy import ColumnElement, Connection, Row, Select, delete, or_, select, update

from headrace_schemas import Topic
from headrace_workers.core.ledger.dead_letters import Burial
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.outcome import StepWrite
from headrace_workers.core.pipeline.stage import model_queue
from headrace_workers.core.sql.database import among, clock, insert, now_ms
from headrace_workers.core.sql.paging import AT_ONCE, lock_some
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.core.tables import JOBS, LIVE, STEPS
from headrace_workers.features.tuning.tables import CHECKPOINTS, EVENTS, IS_OPEN, RUNS
from headrace_workers.files.store import files
from headrace_workers.files.store.files import NewFile

KIND: Final = "tuning"
VALIDATING_FILES, QUEUED, RUNNING = "validating_files", "queued", "running"
SUCCEEDED, FAILED, CANCELLED = "succeeded", "failed", "cancelled"
MAX_EVENTS: Final = 10_000  # of a run that are read; a worker tells a thousand steps of it, see tuner.py
_MAX_MESSAGE: Final = 2_000


@dataclass(frozen=True, slots=True)
class RunEvent:
    """Something that happened in a run: a message for people, and figures where it is a step. `at` is ms since 1970;
    None for now.
    """

    message: str
    level: str = "info"
    data: Mapping[str, Any] | None = None
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that is stored."""

    step: int
    uri: str
    sha256: str
    metrics: Mapping[str, float] = field(default_factory=dict)


def begin_run(connection: Connection, job_id: str, tenant: str, payload: bytes) -> None:
    """Add the run of a job, whose value is `payload`. A run that is there stays as it is."""
    job: Mapping[str, Any] = from_json(payload)
    row = {
        "job_id": job_id, "tenant": tenant, "model": job["model"], "training_file": job["training_file"],
        "validation_file": job.get("validation_file"), "job": payload.decode(), "state": VALIDATING_FILES,
        "created_at": now_ms(),
    }  # fmt: skip
    connection.execute(insert(connection, RUNS).values(row).on_conflict_do_nothing())


def begin_sent(connection: Connection, job_id: str, tenant: str, payload: bytes) -> None:
    """Add the run of a job that was sent, unless the ledger has the job: then its run began, or is forgotten."""
    if connection.execute(select(JOBS.c.id).where(JOBS.c.id == job_id)).first() is None:
        begin_run(connection, job_id, tenant, payload)


def set_state(connection: Connection, job_id: str, state: str, **changes: Any) -> None:
    """Set the state of a run, and other columns of it. A run that failed is open again: its job was replayed."""
    values = {"finished_at": None, "error": None, **changes}
    over = RUNS.c.state.in_((SUCCEEDED, CANCELLED))
    connection.execute(update(RUNS).where(RUNS.c.job_id == job_id, ~over).values(state=state, **values))


def begin_training(connection: Connection, job_id: str) -> None:
    """Note that a run that was queued trains."""
    queued = (RUNS.c.job_id == job_id) & (RUNS.c.state == QUEUED)
    connection.execute(update(RUNS).where(queued).values(state=RUNNING))


def add_events(connection: Connection, job_id: str, events: Sequence[RunEvent]) -> None:
    """Add events to a run."""
    if not events:
        return
    counted = update(RUNS).where(RUNS.c.job_id == job_id).values(last_event=RUNS.c.last_event + len(events))
    run = connection.execute(counted.returning(RUNS.c.number, RUNS.c.last_event)).first()
    if run is None:
        return
    now, first = clock(connection), run.last_event - len(events) + 1
    rows = [
        {
            "run": run.number, "number": number, "at": now if event.at is None else event.at, "level": event.level,
            "message": event.message[:_MAX_MESSAGE],
            "data": None if event.data is None else json.dumps(dict(event.data), ensure_ascii=False),
        }
        for number, event in enumerate(events, first)
    ]  # fmt: skip
    connection.execute(insert(connection, EVENTS), rows)


def add_checkpoint(connection: Connection, job_id: str, checkpoint: Checkpoint) -> None:
    """Add a checkpoint to a run; one of the same step is replaced."""
    run = connection.execute(select(RUNS.c.number).where(RUNS.c.job_id == job_id)).scalar()
    if run is None:
        return
    row = {
        "run": run, "step": checkpoint.step, "at": clock(connection), "uri": checkpoint.uri,
        "sha256": checkpoint.sha256, "metrics": json.dumps(dict(checkpoint.metrics)),
    }  # fmt: skip
    added = insert(connection, CHECKPOINTS).values(row)
    key = {name: row[name] for name in ("at", "uri", "sha256", "metrics")}
    connection.execute(added.on_conflict_do_update(index_elements=["run", "step"], set_=key))


@dataclass(frozen=True, slots=True)
class RunWrite(StepWrite):
    """The rows of a run that its step writes in the transaction that completes it. `changes` are other columns of the
    run, such as `trained_tokens` and `estimated_finish` (ms since 1970). `results` is the file of its losses.
    """

    job_id: str
    state: str
    events: Sequence[RunEvent] = ()
    checkpoints: Sequence[Checkpoint] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    results: NewFile | None = None

    def write(self, connection: Connection) -> None:
        """Write it."""
        named = {} if self.results is None else {"result_file": self.results.id}
        set_state(connection, self.job_id, self.state, **self.changes, **named)
        if self.results is not None:
            files.add(connection, self.results)
        add_events(connection, self.job_id, self.events)
        for checkpoint in self.checkpoints:
            add_checkpoint(connection, self.job_id, checkpoint)


# -- with the job


def is_tuning() -> ColumnElement[bool]:
    """Return the condition that a job is of this kind."""
    return JOBS.c.kind == KIND


def begin_runs(connection: Connection, jobs: Sequence[NewJob]) -> None:
    """Begin the runs of the tuning jobs among those that were taken in."""
    for job in jobs:
        if job.kind == KIND:
            begin_run(connection, job.id, job.tenant, job.payload)


def end_refused(connection: Connection, refused: Sequence[Burial], jobs: Sequence[NewJob]) -> None:
    """End the runs of jobs that were sent, and not taken in. The gateway may write such a run before or after."""
    reasons = {job.id: "its job was refused: a quota is used up" for job in jobs if job.kind == KIND}
    sent = {job.id: (job.tenant, job.payload) for job in jobs if job.kind == KIND}
    for burial in refused:
        if burial.topic is Topic.TUNING and burial.refers_to:
            reasons[burial.refers_to] = burial.reason
            if burial.sound and burial.tenant and burial.size is None:  # a job whose value is here as a whole
                sent[burial.refers_to] = (burial.tenant, burial.value)
    for job_id, reason in sorted(reasons.items()):
        if job_id in sent:
            begin_sent(connection, job_id, *sent[job_id])
        unknown = ~select(JOBS.c.id).where(JOBS.c.id == job_id).exists()
        error = json.dumps({"code": "refused", "message": reason, "param": None}, ensure_ascii=False)
        ended = update(RUNS).where(RUNS.c.job_id == job_id, IS_OPEN, unknown)
        connection.execute(ended.values(state=FAILED, finished_at=now_ms(), error=error))


def hold_runs(
    connection: Connection, _rows: Sequence[StepWrite], job_ids: Sequence[str], _tenants: Collection[str]
) -> None:
    """Lock the runs of these jobs, in their order."""
    if job_ids:
        query = select(RUNS.c.job_id).where(among(connection, RUNS.c.job_id, job_ids)).order_by(RUNS.c.job_id)
        connection.execute(query.with_for_update()).all()


def end_runs(connection: Connection, terminals: Mapping[str, bytes | None]) -> None:
    """End the runs of those of these jobs that have one, as the jobs did, whose terminal events these are."""
    query = select(RUNS.c.job_id).where(among(connection, RUNS.c.job_id, sorted(terminals)))
    for job_id in sorted(connection.execute(query).scalars()):
        told: Mapping[str, Any] = from_json(terminals[job_id] or b"{}")
        changes: dict[str, Any] = {"finished_at": now_ms(), "estimated_finish": None}
        if tuned := told.get("tuned"):
            state, message, level = SUCCEEDED, "the tuned model is published", "info"
            changes["aliases"] = json.dumps(tuned["aliases"])
            changes["trained_tokens"] = tuned["usage"]["prompt_tokens"]
        elif "category" in told:
            state, message, level = FAILED, str(told["reason"]), "error"
            code = told.get("code") or told["category"]
            changes["error"] = json.dumps({"code": code, "message": message, "param": None}, ensure_ascii=False)
        else:
            state, message, level = CANCELLED, "the run was cancelled", "info"
        set_state(connection, job_id, state, **changes)
        add_events(connection, job_id, [RunEvent(message, level)])


# -- to read


def run_by_id(connection: Connection, job_id: str, tenant: str | None = None) -> Row[Any] | None:
    """Return a run; with `tenant`, only that tenant's."""
    query = select(RUNS).where(RUNS.c.job_id == job_id)
    return connection.execute(_of(query, tenant)).first()


def runs(
    connection: Connection, tenant: str | None = None, after: str | None = None, limit: int = 100
) -> list[Row[Any]]:
    """Return runs, newest first, that come after the run of the job `after`."""
    query = _of(select(RUNS), tenant)
    if after is not None and (last := run_by_id(connection, after, tenant)) is not None:
        query = query.where(RUNS.c.number < last.number)
    return list(connection.execute(query.order_by(RUNS.c.number.desc()).limit(limit)))


def events(connection: Connection, run: int, after: int | None = None, limit: int = 100) -> list[Row[Any]]:
    """Return the events of the run with this number, newest first, that come before the event `after`."""
    query = select(EVENTS).where(EVENTS.c.run == run)
    query = query if after is None else query.where(EVENTS.c.number < after)
    return list(connection.execute(query.order_by(EVENTS.c.number.desc()).limit(limit)))


def checkpoints(connection: Connection, run: int, after: int | None = None, limit: int = 100) -> list[Row[Any]]:
    """Return the checkpoints of the run with this number, newest first, of steps before `after`."""
    query = select(CHECKPOINTS).where(CHECKPOINTS.c.run == run)
    query = query if after is None else query.where(CHECKPOINTS.c.step < after)
    return list(connection.execute(query.order_by(CHECKPOINTS.c.step.desc()).limit(limit)))


def made(connection: Connection, tenants: Collection[str]) -> set[str]:
    """Return the aliases of the models that runs of these tenants made."""
    query = select(RUNS.c.aliases).where(among(connection, RUNS.c.tenant, list(tenants)), RUNS.c.state == SUCCEEDED)
    return {alias for aliases in connection.execute(query).scalars() for alias in json.loads(aliases)}


def _of(query: Select[Any], tenant: str | None) -> Select[Any]:
    return query if tenant is None else query.where(RUNS.c.tenant == tenant)


# -- what is in use


def users_of_file(file_id: str | ColumnElement[str]) -> Select[str]:
    """Return the query of the open runs that learn from this file."""
    return select(RUNS.c.job_id).where(IS_OPEN, or_(RUNS.c.training_file == file_id, RUNS.c.validation_file == file_id))


def needs(connection: Connection, model: str) -> str | None:
    """Return why a model cannot be deleted now: who waits for it, learns from it, or makes it."""
    waiting = select(STEPS.c.job_id).where(STEPS.c.queue == model_queue(model), STEPS.c.state.in_(LIVE)).limit(1)
    learning = select(RUNS.c.job_id).where(IS_OPEN, RUNS.c.model == model).limit(1)
    making = select(RUNS.c.job_id).where(IS_OPEN, _makes(model)).limit(1)
    for what, query in (("waits for it", waiting), ("learns from it", learning), ("makes it", making)):
        if (job_id := connection.execute(query).scalar()) is not None:
            return f"the job {job_id} {what}: cancel it first, or wait for its end"
    return None


def _makes(alias: str) -> ColumnElement[bool]:
    return RUNS.c.aliases.contains(f'"{alias}"', autoescape=True)


# -- the end


def forget_alias(connection: Connection, alias: str, tenant: str) -> None:
    """Take an alias from the run of a tenant that made it. A run without aliases is forgotten."""
    mine = (RUNS.c.tenant == tenant) & (RUNS.c.state == SUCCEEDED) & _makes(alias)
    for run in connection.execute(select(RUNS.c.number, RUNS.c.aliases).where(mine).with_for_update()).all():
        left = [load for load in json.loads(run.aliases) if load != alias]
        if left:
            connection.execute(update(RUNS).where(RUNS.c.number == run.number).values(aliases=json.dumps(left)))
        else:
            forget(connection, [run.number])


def forget(connection: Connection, numbers: Sequence[int]) -> None:
    """Delete the runs with these numbers, their events and their checkpoints."""
    for table, column in ((EVENTS, EVENTS.c.run), (CHECKPOINTS, CHECKPOINTS.c.run), (RUNS, RUNS.c.number)):
        connection.execute(delete(table).where(among(connection, column, numbers)))


def forget_old(connection: Connection, older_than_ms: int) -> bool:
    """Forget runs that ended long ago without a model; return True if there may be more."""
    numbers = lock_some(
        connection,
        RUNS.c.number,
        (RUNS.c.finished_at < now_ms() - older_than_ms) & or_(RUNS.c.state == FAILED, RUNS.c.state == CANCELLED),
    )
    if numbers:
        forget(connection, numbers)
    return len(numbers) == AT_ONCE


class TuningRuns(LedgerStore):
    """The tuning runs of one ledger. Thread-safe. Unavailable when the database does not answer."""

    begin = durable(begin_sent)
    add_events = durable(add_events)
    begin_training = durable(begin_training)
    run = reads(run_by_id)
    runs = reads(runs)
    events = reads(events)
    checkpoints = reads(checkpoints)
    made = reads(made)
    needs = reads(needs)
    forget_alias = durable(forget_alias)
