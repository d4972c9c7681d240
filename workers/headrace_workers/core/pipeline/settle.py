"""Settlement of a claimed step: read its task or unit, and turn the outcome into rows and events. Pure."""

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pydantic_core import to_json

from headrace_schemas import Category, JobHeld, Moderated, Output, Result, StageRecord, Topic
from headrace_schemas.codec import decode_job, decode_value
from headrace_schemas.errors import EndCode
from headrace_schemas.event_types import topic_for, type_of
from headrace_schemas.events import Attempt, Cost, JobEvent
from headrace_schemas.job import ModelJob
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.reasons import reason_of
from headrace_workers.core.identity import held_id, said_id
from headrace_workers.core.ledger.charges import Bill, Charge, NextCall, context_of, not_made, routed
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.dead_letters import Burial, job_burial
from headrace_workers.core.ledger.leases import Started, StepRow
from headrace_workers.core.ledger.model_calls import WantedCall
from headrace_workers.core.ledger.outbox import Outgoing, outgoing
from headrace_workers.core.ledger.outcome import Dead, Done, Dropped, Ended, Held, Outcome, Retry, Unanswered, Wait
from headrace_workers.core.ledger.steps import NewStep
from headrace_workers.core.pipeline.chain import (
    TRIED,
    FailedAttempt,
    attempt_of,
    in_words,
    tokens_with,
    tried_in,
    with_attempt,
    with_chain,
)
from headrace_workers.core.pipeline.routing import Pipeline, Route
from headrace_workers.core.pipeline.stage import ReadBytes, model_of
from headrace_workers.core.pipeline.task import (
    CORRECTED,
    HELD,
    StepEvent,
    Task,
    Unit,
    WrongOutcome,
    pack,
    published,
    unpack,
)
from headrace_workers.core.tables import NEVER


def task_of(row: StepRow, now: int | None = None) -> Task | Unit:
    """Return the task, or the unit, that a claimed step is. `now` is the ledger's time (ms)."""
    if row.endpoint is not None:
        return _unit(row, row.endpoint)
    context, unpublished = unpack(row.context)
    job = with_chain(decode_job(row.kind, row.job_payload), context)
    event = job if row.payload is None else decode_value(row.event_type, row.payload)
    accepted_at = datetime.fromtimestamp(row.accepted_at / 1000, UTC)
    return Task(
        job_id=row.job_id,
        job=job,
        event=event,  # type: ignore[arg-type]
        accepted_at=accepted_at,
        attempt=row.attempts,
        context=context,
        ordinal=row.ordinal,
        stages=published(event) + unpublished,
        woken_by=row.woken_by,
        seconds_left=None if now is None or row.deadline >= NEVER else (row.deadline - now) / 1000,
        waited=0.0 if now is None or row.waited_since is None else (now - row.waited_since) / 1000,
    )


def _unit(row: StepRow, endpoint: str) -> Unit:
    value = row.payload or b""
    event = None if row.payload is None else decode_value(row.event_type, value)
    return Unit(
        id=row.job_id,
        subject=row.subject or "",
        tenant=row.tenant,
        endpoint=endpoint,
        event=event,
        value=value,
        attempt=row.attempts,
        woken_by=row.woken_by,
        job=decode_job("generation", row.job_payload) if row.job_payload else None,
    )


_FIRST_TRY_MS, _LONGEST_TRY_MS = 5_000, 120_000  # of what is held until something works


@dataclass(frozen=True, slots=True)
class Conditions:
    """Inputs of settling in addition to the outcome: the pipeline, bounds, chance, and how long the run took."""

    pipeline: Pipeline
    max_attempts: int
    random: random.Random
    ran_ms: float


def settle(started: Started, row: StepRow, task: Task | Unit, outcome: Outcome, conditions: Conditions) -> StepResult:
    """Return the ledger's outcome of one task, or one unit."""
    try:
        bill = _bill(started, row, task, outcome, conditions)
        settled = _settled(started, row, task, outcome, conditions, bill)
        return settled if settled.charge is bill.charge else settled._replace(charge=bill.charge)
    except WrongOutcome as error:
        return settle_dead(started.stage, row, Dead(Category.PERMANENT, f"the stage {started.stage!r} {error}"))


def _bill(started: Started, row: StepRow, task: Task | Unit | None, outcome: Outcome, conditions: Conditions) -> Bill:
    """Return the job's bill after this step."""
    context = task.context if isinstance(task, Task) else context_of(row.context)
    bill = Bill.before(context, model_of(started.queue))
    if bill.call is None:
        return bill
    if model_of(started.queue) is None:  # training, of which only what it keeps is charged
        return bill.trained(outcome.trained, outcome.to_train or 0) if isinstance(outcome, Done) else bill
    if isinstance(task, Task) and CORRECTED in task.context.get(HELD, ()):  # a person wrote the answer
        return bill.plus(not_made(bill.call.model))
    return bill.after(outcome, conditions.ran_ms / len(started.steps), is_unit=isinstance(task, Unit))


def _settled(
    started: Started, row: StepRow, task: Task | Unit, outcome: Outcome, conditions: Conditions, bill: Bill
) -> StepResult:
    match outcome:
        case Done() | Ended() | Dropped() if isinstance(task, Unit):
            return StepResult(row.job_id, outcome, spent=_spent_by_unit(outcome, bill))
        case Done() if isinstance(task, Task):
            return _go_on(started, row, task, outcome, conditions, bill)
        case Ended() if isinstance(task, Task):
            return _end(started, row, task, outcome, conditions, bill)
        case Retry() | Unanswered():
            return _after_failure(started, row, task, outcome, conditions, bill)
        case Wait() | Held():
            return _put_aside(started, row, task, outcome, conditions)
        case Dead():
            return settle_dead(started.stage, row, outcome, bill)
        case Dropped():
            raise WrongOutcome("dropped a job, whose end somebody waits for")
    raise AssertionError(outcome)


def _spent_by_unit(outcome: Done | Ended | Dropped, bill: Bill) -> bytes | None:
    """Return what the calls of a unit cost, and the tokens of the last; None where no model was asked."""
    if bill.call is None:
        return None
    usage = outcome.usage if isinstance(outcome, Done) else None
    return to_json({"cost": bill.cost, "answer": {"usage": usage or {}}})


def _put_aside(
    started: Started, row: StepRow, task: Task | Unit, outcome: Wait | Held, conditions: Conditions
) -> StepResult:
    if isinstance(outcome, Held):
        delay_ms = None if outcome.needs_person else _retry_at(started, row, conditions)
        records = _held(started, row, task, outcome, conditions)
        context = None
        if outcome.known and isinstance(task, Task):
            with suppress(WrongOutcome):  # too much to be kept: the job is held all the same
                context = pack({**task.context, HELD: outcome.known}, task.stages[len(published(task.event)) :])
        return StepResult(row.job_id, outcome, records, delay_ms=delay_ms, context=context)
    return StepResult(row.job_id, outcome, delay_ms=None if outcome.at_most is None else int(outcome.at_most * 1000))


def _retry_at(started: Started, row: StepRow, conditions: Conditions) -> int:
    """Return in how many ms a held step is tried again: half of what it has waited, so that many do not crowd
    others.
    """
    waited = 0 if row.held_at is None else started.now - row.held_at
    longest = min(max(_FIRST_TRY_MS, waited // 2), _LONGEST_TRY_MS)
    return int(longest * conditions.random.uniform(0.5, 1.0))


def _held(
    started: Started, row: StepRow, task: Task | Unit, held: Held, conditions: Conditions
) -> tuple[Outgoing, ...]:
    """Return the event that reports the hold; nothing for a unit, and the second time."""
    if row.held_at is not None or not isinstance(task, Task):
        return ()
    event = JobHeld(
        job_id=row.job_id,
        tenant=row.tenant,
        stages=task.stages,
        stage=started.stage,
        reason=held.reason[:MAX_SHORT_TEXT],
        needs_person=held.needs_person,
    )
    record = outgoing(
        event,
        event_id=held_id(row.job_id, started.stage, row.ordinal, started.now, row.replays),
        job_id=row.job_id,
        traceparent=row.traceparent,
        correlationid=row.correlationid,
        at_ms=int(started.now + conditions.ran_ms),
    )
    return (record,)


def failed(started: Started, row: StepRow, reason: str, conditions: Conditions) -> StepResult:
    """Return the ledger's outcome of a step whose worker failed around it."""
    retry = Retry(reason)
    return _after_failure(started, row, None, retry, conditions, _bill(started, row, None, retry, conditions))


def _go_on(started: Started, row: StepRow, task: Task, done: Done, conditions: Conditions, bill: Bill) -> StepResult:
    """Return the job's next step, with the events that its last one publishes, if any."""
    stages = _with_record(task, _record(started, row, conditions))
    events = (*done.also, *((_with_cost(done.event, bill.charge),) if done.event else ()))
    staged = [_with_stages(event, stages) for event in events]
    event = staged[-1] if done.event else task.event
    pipeline = conditions.pipeline
    route, ordinal = _next(started, row, task, event, done, pipeline)  # type: ignore[arg-type]
    records = _outgoing(started, row, staged, conditions)
    payload, event_type = (
        (records[-1].value, type_of(event)) if done.event else (row.payload, row.event_type)  # type: ignore[arg-type]
    )
    charged = bill.context if bill.made_call and not _is_told(bill.charge, done.event) else {}
    kept = {**task.context, **done.context, **charged}
    kept.pop(HELD, None)
    read = ReadBytes(len(row.job_payload), len(payload or b"") + _size(kept))
    call, goes_on = pipeline.call(route, task.job, read), False
    if done.to_train is not None and done.model is not None:
        goes_on = bill.call is not None  # at the price that it began with
        call = bill.call._replace(tokens=done.to_train) if bill.call else pipeline.training(done.model, done.to_train)
    context = pack(routed(kept, call), stages[len(published(event)) :])
    following = NewStep(
        job_id=row.job_id,
        stage=route.stage.name,
        ordinal=ordinal,
        queue=route.queue,
        group_key=route.group,
        prefix=route.prefix,
        sized=route.stage.weight.sized,
        lane=row.lane,
        rank=row.rank,
        deadline=row.deadline,
        due=row.due,
        turn=0,  # it is given one where it has to wait
        tenant=row.tenant,
        flow=row.batch or 0,
        tokens=_tokens(row, task, done, route.model),
        event_type=event_type,
        payload=payload,
        context=context,
        read_bytes=len(row.job_payload) + len(payload or b"") + len(context or b""),
    )
    wanted = wanted_call(call, bill, goes_on=goes_on, to_train=done.to_train)
    if wanted and (behind := pipeline.reserved_behind(route, row.job_id, task.job, event, read)):  # type: ignore[arg-type]
        wanted = replace(wanted, most=wanted.most + behind)
    refusal = _refusal(route.stage.name, row, 0, bill, advice=done.advice) if wanted else None
    return StepResult(
        row.job_id, done, records, (following,), event=event, call=wanted, refusal=refusal, charge=bill.charge
    )


def _next(
    started: Started, row: StepRow, task: Task, event: StepEvent, done: Done, pipeline: Pipeline
) -> tuple[Route, int]:
    """Return the route to the job's next step, and the step's ordinal. Raise WrongOutcome if there is none."""
    route = pipeline.next_step(row.job_id, task.job, event, after=started.stage, to=done.to, model=done.model)
    if route is None:
        where = f"the unknown stage {done.to!r}" if done.to else f"no stage that takes {type(event).__name__}"
        raise WrongOutcome(f"sent the job on to {where}")
    ordinal = row.ordinal + pipeline.goes_back(started.stage, route.stage.name)
    if ordinal > route.stage.most_rounds:
        raise WrongOutcome(f"sent the job back to {done.to!r} more than {route.stage.most_rounds} times")
    return route, ordinal


def _tokens(row: StepRow, task: Task, done: Done, model: str | None) -> int:
    """Return what the job costs from here on, with the model that it goes to."""
    if model is None or not isinstance(task.job, ModelJob):
        return row.tokens if done.tokens is None else done.tokens
    if done.tokens is not None:
        return tokens_with(model, task.job.first_model, done.tokens, task.context)
    before = task.event.answer.model if isinstance(task.event, Output | Moderated) else task.job.first_model
    return tokens_with(model, before, row.tokens, task.context)


def _end(started: Started, row: StepRow, task: Task, end: Ended, conditions: Conditions, bill: Bill) -> StepResult:
    """Return the end of a job whose last event is there."""
    if topic_for(end.event) is not Topic.RESULTS:  # type: ignore[arg-type]
        raise WrongOutcome(f"ended the job with {type(end.event).__name__}, which is no terminal event")
    stages = _with_record(task, _record(started, row, conditions))
    changes: dict[str, object] = {"stages": stages}
    if isinstance(end.event, Result):
        changes["cost"] = _with_answer(bill, end.event).cost
        changes["total_ms"] = round(max(0.0, started.now - row.accepted_at + conditions.ran_ms), 1)
    last = end.event.model_copy(update=changes)
    records = _outgoing(started, row, [*(_with_stages(event, stages) for event in end.also), last], conditions)
    return StepResult(row.job_id, end, records[:-1], end=records[-1], charge=bill.charge)


def _is_told(charge: Charge | None, event: JobEvent | None) -> bool:
    """Return True if an answer tells of this call, and nothing else is known: then no context is written for it."""
    return charge is not None and charge.amount is None and isinstance(event, Output)


def _with_answer(bill: Bill, result: Result) -> Bill:
    """Return the bill with the call of the answer's model, or with the training of a model, whose price is not known
    where no charge names it.
    """
    answer = result.answer
    if result.tuned is not None and result.tuned.model not in bill.models:
        return bill.plus(Charge(result.tuned.model, None))
    if answer is None or answer.model in bill.models or answer.finish_reason == "abstained":
        return bill
    if answer.recall is not None and answer.recall.tier != "none":
        return bill
    return bill.plus(Charge(answer.model, None))


def _with_cost(event: JobEvent, charge: Charge | None) -> JobEvent:
    """Return an output whose answer lists its attempts with what the last of them cost."""
    if charge is None or not isinstance(event, Output) or not event.answer.attempts:
        return event
    *before, last = event.answer.attempts
    attempts = (*before, last.model_copy(update={"cost": charge.amount}))
    return event.model_copy(update={"answer": event.answer.model_copy(update={"attempts": attempts})})


def wanted_call(
    call: NextCall | None, bill: Bill, *, goes_on: bool = False, to_train: int | None = None
) -> WantedCall | None:
    """Return what the ledger reserves for a call, where that has a price, or for training."""
    if call is None or (call.most is None and to_train is None):
        return None
    return WantedCall(call.model, bill.spent, call.most or 0, goes_on, bill.trained_tokens, to_train)


def _with_record(task: Task, record: StageRecord) -> tuple[StageRecord, ...]:
    """Return the records of a task with one more. It becomes part of the last where a stage went on with its own work,
    and that was not published.
    """
    last = task.stages[-1] if len(task.stages) > len(published(task.event)) else None
    if last is None or last.stage != record.stage:
        return (*task.stages, record)
    merged = {
        "attempt": max(last.attempt, record.attempt),
        "waited_ms": last.waited_ms + record.waited_ms,
        "ran_ms": round(last.ran_ms + record.ran_ms, 1),
        "group_size": max(last.group_size, record.group_size),
    }
    return (*task.stages[:-1], record.model_copy(update=merged))


def _record(started: Started, row: StepRow, conditions: Conditions) -> StageRecord:
    waited_ms, ran_ms = max(0, started.now - row.ready_at), round(conditions.ran_ms, 1)
    return _stage_record(started.stage, max(1, row.attempts), waited_ms, ran_ms, len(started.steps))


@lru_cache(maxsize=256)  # most jobs of a group came together, and have the same
def _stage_record(stage: str, attempt: int, waited_ms: int, ran_ms: float, group_size: int) -> StageRecord:
    return StageRecord(stage=stage, attempt=attempt, waited_ms=waited_ms, ran_ms=ran_ms, group_size=group_size)


def _with_stages(event: JobEvent, stages: tuple[StageRecord, ...]) -> JobEvent:
    return event.model_copy(update={"stages": stages})


def _outgoing(
    started: Started, row: StepRow, events: Sequence[JobEvent], conditions: Conditions
) -> tuple[Outgoing, ...]:
    """Return the records of these events. An event's id tells which run of which stage said it, so that a repeat is
    known.
    """
    return tuple(
        outgoing(
            event,  # type: ignore[arg-type]
            event_id=said_id(row.job_id, started.stage, row.ordinal, place, row.replays),
            job_id=row.job_id,
            traceparent=row.traceparent,
            correlationid=row.correlationid,
            at_ms=int(started.now + conditions.ran_ms),
        )
        for place, event in enumerate(events)
    )


def _after_failure(
    started: Started,
    row: StepRow,
    task: Task | Unit | None,
    failure: Retry | Unanswered,
    conditions: Conditions,
    bill: Bill,
) -> StepResult:
    """Decide what follows an attempt that failed: another one, of this model or the next, a wait, or an end."""
    stage = conditions.pipeline.stage(started.stage)
    assert stage is not None  # noqa: S101 - a worker runs none that it does not know
    context = task.context if isinstance(task, Task) else {}
    others = tried_in(context, besides=model_of(started.queue))
    attempts = row.attempts - len(others)  # each model of a chain has all attempts of the schedule
    after = failure.after if isinstance(failure, Retry) else 0.0
    delay = int(stage.retry.delay(attempts, conditions.random, after) * 1000) / 1000
    most = stage.retry.most(conditions.max_attempts)
    attempt = replace(_attempt(started, task, failure), number=attempts, most=most, delay=delay)
    left = None if row.deadline >= NEVER else (row.deadline - started.now - int(conditions.ran_ms)) / 1000
    job = task.job if isinstance(task, Task) else None
    decision, to = conditions.pipeline.decide(stage, row.job_id, job, attempt, left)
    ends_it = isinstance(failure, Unanswered) and not failure.error.category.retryable
    if task is not None and failure.otherwise is not None and (decision.action == "dead" or ends_it):
        return _settled(started, row, task, failure.otherwise, conditions, bill)
    retry = failure if isinstance(failure, Retry) else _retry(failure, decision.category, context)
    if decision.action == "wait" and task is not None:
        until = failure.until if isinstance(failure, Unanswered) else None
        return _put_aside(started, row, task, Wait(until, retry.reason, at_most=decision.seconds), conditions)
    if decision.action != "dead":
        return _later(started, row, task, retry, int(decision.seconds * 1000), to, conditions, bill)
    dead = _dead(failure, retry, decision.category, row.attempts, context, others)
    return settle_dead(started.stage, row, dead, bill)


def _attempt(started: Started, task: Task | Unit | None, failure: Retry | Unanswered) -> FailedAttempt:
    """Return the attempt that failed as the decision about it needs it."""
    model = model_of(started.queue)
    if isinstance(failure, Retry):
        return FailedAttempt(model=model, category=failure.category)
    job, waited = (task.job, task.waited) if isinstance(task, Task) else (None, 0.0)
    attempt = attempt_of(failure.error, model, job, waited=waited)
    return replace(attempt, opens_in=failure.opens_in, again=failure.again)


def _retry(failure: Unanswered, category: Category, context: Mapping[str, Any]) -> Retry:
    """Return the next attempt after one without an answer. The receipt lists this one with the `category`."""
    attempt = failure.attempt and failure.attempt.model_copy(update={"category": category})
    tried = {} if attempt is None else with_attempt(context, attempt)
    return Retry(reason_of(failure.error), category=category, context=tried, billed=failure.error.billed)


def _dead(
    failure: Retry | Unanswered,
    retry: Retry,
    category: Category,
    attempts: int,
    context: Mapping[str, Any],
    others: Sequence[Attempt],
) -> Dead:
    """Return the end of a job that is not tried again. Its reason names the attempts of the other models."""
    code = None
    if category is Category.EXPIRED:
        why = f"the deadline leaves no time to try again: {retry.reason}"
    elif isinstance(failure, Unanswered) and not category.retryable:
        why, code, others = retry.reason, failure.error.end_code, tried_in(context)
    else:
        why = f"given up after {attempts} attempts: {retry.reason}"
    before = f"; tried before: {in_words(others)}" if others else ""
    return Dead(
        category, f"{why}{before}", retry.billed, retry.usage, failure=retry.failure, place=retry.place, code=code
    )


def _later(
    started: Started,
    row: StepRow,
    task: Task | Unit | None,
    retry: Retry,
    delay_ms: int,
    to: Route | None,
    conditions: Conditions,
    bill: Bill,
) -> StepResult:
    """Return the outcome of a step that is tried again after this delay, by another model where there is a route."""
    settled = StepResult(row.job_id, retry, delay_ms=delay_ms)
    here = model_of(started.queue)
    if not isinstance(task, Task):
        return _later_unit(settled, started, row, bill)
    added: dict[str, Any] = dict(retry.context)
    if bill.made_call and bill.charge is not None:
        added |= {**bill.context, **_last_tried(retry.context, bill.charge.amount)}
    kept = {**task.context, **added}
    call = None
    if to is not None and to.model is not None:
        read = ReadBytes(len(row.job_payload), len(row.payload or b"") + _size(kept))
        call = conditions.pipeline.call(to, task.job, read)
        kept = routed(kept, call)
    elif bill.made_call and bill.call is not None:
        call = bill.call._replace(tokens=bill.call.tokens + retry.more_tokens)
        kept = routed(kept, call)
    if added or call is not None:
        context = pack(kept, task.stages[len(published(task.event)) :])
        wanted = wanted_call(call, bill)
        refusal = _refusal(started.stage, row, row.attempts, bill, retry) if wanted else None
        settled = settled._replace(context=context, call=wanted, refusal=refusal)
    if to is None:
        return settled._replace(tokens=row.tokens + retry.more_tokens) if retry.more_tokens else settled
    tokens = tokens_with(to.model, here, row.tokens, task.context) if to.model and here else row.tokens
    return settled._replace(queue=to.queue, group_key=to.group, prefix=to.prefix, tokens=tokens)


def _later_unit(settled: StepResult, started: Started, row: StepRow, bill: Bill) -> StepResult:
    """Return the outcome of a unit that is tried again. It asks its model again if its call may be billed."""
    if not bill.made_call:
        return settled
    context, unpublished = unpack(row.context)
    settled = settled._replace(context=pack({**context, **bill.context}, unpublished))
    if (wanted := wanted_call(bill.call, bill)) is None:
        return settled
    return settled._replace(call=wanted, refusal=_refusal(started.stage, row, row.attempts, bill))


def _last_tried(context: Mapping[str, Any], amount: int | None) -> dict[str, Any]:
    """Return the context in which the attempt that failed last says what it cost."""
    if amount is None or not context.get(TRIED):
        return {}
    *before, last = context[TRIED]
    return {TRIED: [*before, {**last, "cost": amount}]}


def _size(context: Mapping[str, Any]) -> int:
    return len(pack(context, ()) or b"")


def settle_dead(stage: str, row: StepRow, outcome: Dead, bill: Bill | None = None) -> StepResult:
    """Return the end of this job in `dead`. Without a `bill`, the bill from before this step counts."""
    bill = bill or Bill.before(context_of(row.context))
    burial = _burial(stage, row, row.attempts, outcome, bill.cost if bill.models else None)
    return StepResult(row.job_id, outcome, burial=burial)


def _refusal(
    stage: str, row: StepRow, attempts: int, bill: Bill, failed: Retry | None = None, advice: str = ""
) -> Burial:
    """Return the end of a job that may not make its next call; the ledger says why, before the `advice`. `failed` is
    why it wants one.
    """
    failure, place = (None, None) if failed is None else (failed.failure, failed.place)
    return _burial(stage, row, attempts, Dead(Category.QUOTA, advice, failure=failure, place=place), bill.cost)


def _burial(stage: str, row: StepRow, attempts: int, outcome: Dead, cost: Cost | None) -> Burial:
    # Another model might have answered, but the chain has none left.
    lacks_model = outcome.category is Category.REROUTABLE and outcome.failure is None
    code = outcome.code or (EndCode.NO_MODEL if lacks_model else None)
    return job_burial(row, stage, replace(outcome, code=code), cost, attempts=attempts)
