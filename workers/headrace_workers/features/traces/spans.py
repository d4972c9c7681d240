"""Spans of a job that ended, made from its receipt and its steps.

Names follow OpenTelemetry's semantic conventions for generative AI. Ids are digests of the job, its stages and its
calls: a trace that is exported twice is the same trace.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import accumulate, pairwise
from typing import Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from pydantic_core import from_json, to_json
from sqlalchemy import Row

from headrace_schemas.events import made_in
from headrace_workers.core.pipeline.stage import model_of

_MICRO: Final = 1_000_000
_CONTENT_CHARACTERS: Final = 32_000  # of one text
_RESOURCE: Final = Resource({"service.name": "headrace"})
_OPERATIONS: Final = {"generation": "chat", "decision": "chat", "embedding": "embeddings"}
_JUDGE: Final = "judge"


def _usage(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda call: (call.get("usage") or {}).get(name)


def _money(call: Mapping[str, Any]) -> float | None:
    return None if (cost := call.get("cost")) is None else cost / _MICRO


# The attributes of a call of a model, from its record in a receipt; one without a value is left out. There is no
# convention for what a call costs: beside ours stand the names that OpenInference and MLflow read.
CALL_ATTRIBUTES: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "gen_ai.request.model": lambda call: call["model"],
    "gen_ai.response.model": lambda call: call.get("returned_model"),
    "gen_ai.provider.name": lambda call: call.get("provider") or "headrace",
    "gen_ai.response.finish_reasons": lambda call: [reason] if (reason := call.get("finish_reason")) else None,
    "gen_ai.usage.input_tokens": _usage("prompt_tokens"),
    "gen_ai.usage.output_tokens": _usage("completion_tokens"),
    "gen_ai.usage.cache_read.input_tokens": _usage("cached_tokens"),
    "gen_ai.usage.reasoning.output_tokens": _usage("reasoning_tokens"),
    "error.type": lambda call: call.get("category"),
    "headrace.quantization": lambda call: call.get("quantization"),
    "headrace.cost": _money,
    "llm.cost.total": _money,
    "mlflow.llm.cost": lambda call: None if (cost := _money(call)) is None else to_json({"total_cost": cost}).decode(),
}


def spans_of(job: Row[Any], steps: Sequence[Row[Any]], *, content: bool) -> list[ReadableSpan]:
    """Return the spans of a job that ended (a row of JOBS): its own, one for each stage that ran, and one for each call
    of a model that its receipt tells of. `content`: with the prompt and the answer.
    """
    end = from_json(job.terminal) if job.terminal else {}
    trace, parent = trace_of(job)
    texts = _texts(job, end) if content else {}
    whole = _context(trace, job.id)
    spans = [
        ReadableSpan(
            f"{job.kind} job",
            context=whole,
            parent=parent,
            resource=_RESOURCE,
            kind=SpanKind.CONSUMER,
            attributes=_attributes_of(job, end) | texts,
            events=list(_evaluations(job, end)),
            links=_links(job),
            status=_status(job.state, end),
            start_time=_ns(job.accepted_at),
            end_time=_ns(job.ended_at),
        )
    ]
    ran = [step for step in steps if step.started_at is not None]
    for step in ran:
        stage = _context(trace, job.id, step.stage, step.ordinal)
        spans.append(_stage(step, stage, whole, job.ended_at))
    by_model = [step for step in ran if model_of(step.queue) and step.stage != _JUDGE]
    if by_model:
        spans += _calls(job, end, by_model[-1], trace, texts)
    return spans


def is_failure(job: Row[Any]) -> bool:
    """Return True if a job ended without what it was for."""
    return str(job.state) == "dead"


def trace_of(job: Row[Any]) -> tuple[int, SpanContext | None]:
    """Return the trace id of a job, and the span of its sender that it belongs to: those of its W3C `traceparent`,
    where it came with one.
    """
    parts = (job.traceparent or "").split("-")
    if len(parts) >= 4:
        try:
            trace, span = int(parts[1], 16), int(parts[2], 16)
        except ValueError:
            trace = span = 0
        if 0 < trace < 1 << 128 and 0 < span < 1 << 64:
            return trace, SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return _id(16, job.id), None


def _id(size: int, *what: object) -> int:
    return int.from_bytes(sha256("/".join(map(str, what)).encode()).digest()[:size], "big") or 1


def _context(trace: int, *what: object) -> SpanContext:
    return SpanContext(trace, _id(8, *what), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _ns(ms: float) -> int:
    return int(ms * 1_000) * 1_000  # as a float it would not be exact


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _attributes_of(job: Row[Any], end: Mapping[str, Any]) -> dict[str, Any]:
    cost, made = end.get("cost") or {}, made_in(end)
    return _given(
        {
            "openinference.span.kind": "CHAIN",
            "headrace.job.id": job.id,
            "headrace.tenant": job.tenant,
            "headrace.state": job.state,
            "headrace.application": job.application,
            "headrace.correlation.id": job.correlationid,
            "headrace.cache": (made.get("recall") or {}).get("tier"),
            "headrace.moderation": (end.get("moderation") or {}).get("action"),
            "headrace.cost": _money({"cost": cost.get("amount")}),
            "headrace.cost.currency": cost.get("currency"),
            "error.type": end.get("category"),
        }
    )


def _status(state: str, end: Mapping[str, Any]) -> Status:
    return Status(StatusCode.ERROR, str(end.get("reason", ""))) if state == "dead" else Status(StatusCode.OK)


def _links(job: Row[Any]) -> list[Link]:
    """Return links to the batch and to the application that a job belongs to: jobs of one share the span."""
    named = {"batch": job.correlationid if str(job.correlationid).startswith("batch_") else None,
             "application": job.application}  # fmt: skip
    return [
        Link(_context(_id(16, what, name), what, name), {f"headrace.{what}": name})
        for what, name in named.items()
        if name
    ]


def _evaluations(job: Row[Any], end: Mapping[str, Any]) -> Iterator[Event]:
    for score in (end.get("judge") or {}).get("scores", ()):
        values = {
            "gen_ai.evaluation.name": score.get("name") or score["criterion"],
            "gen_ai.evaluation.score.value": score.get("value"),
            "gen_ai.evaluation.explanation": score.get("reason"),
            "error.type": score.get("not_judged"),
        }
        yield Event("gen_ai.evaluation.result", _given(values), _ns(job.ended_at))


def _stage(step: Row[Any], context: SpanContext, parent: SpanContext, job_ended_at: int) -> ReadableSpan:
    waited = max(0, step.started_at - (step.waited_since or step.started_at))
    return ReadableSpan(
        step.stage,
        context=context,
        parent=parent,
        resource=_RESOURCE,
        attributes={"headrace.queue": step.queue, "headrace.attempts": step.attempts, "headrace.waited_ms": waited},
        status=Status(StatusCode.ERROR if step.state == "dead" else StatusCode.OK),
        start_time=_ns(step.started_at),
        end_time=_ns(step.ended_at or job_ended_at),
    )


def _calls(
    job: Row[Any], end: Mapping[str, Any], step: Row[Any], trace: int, texts: Mapping[str, Any]
) -> Iterator[ReadableSpan]:
    """Yield a span for each call of a model in this step, one after the other up to its end."""
    made = made_in(end)
    if not made or (made.get("recall") or {}).get("tier", "none") != "none":
        return
    calls = list(made.get("attempts") or [_only(made, end)])
    last = calls[-1] = {**made, **calls[-1]}
    stop = step.ended_at or job.ended_at
    lasted = [call.get("ms", stop - step.started_at) for call in calls]
    times = [max(stop - left, job.accepted_at) for left in accumulate(reversed(lasted), initial=0)][::-1]
    operation = _OPERATIONS.get(job.kind, "chat")
    for number, (call, (began, ended)) in enumerate(zip(calls, pairwise(times), strict=True)):
        wanted = {name: read(call) for name, read in CALL_ATTRIBUTES.items()}
        yield ReadableSpan(
            f"{operation} {call['model']}",
            context=_context(trace, job.id, step.stage, step.ordinal, number),
            parent=_context(trace, job.id, step.stage, step.ordinal),
            resource=_RESOURCE,
            kind=SpanKind.CLIENT,
            attributes={"gen_ai.operation.name": operation, **_given(wanted), **(texts if call is last else {})},
            status=Status(StatusCode.ERROR, call.get("reason")) if call.get("category") else Status(StatusCode.OK),
            start_time=_ns(began),
            end_time=_ns(ended),
        )


def _only(made: Mapping[str, Any], end: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of the only call for an answer, with its cost, where its model was called once."""
    models = (end.get("cost") or {}).get("models", ())
    costs = [cost for cost in models if cost["model"] == made["model"] and cost["calls"] == 1]
    known = costs[0].get("amount", 0) if costs and not costs[0].get("unknown_calls") else None
    return {"model": made["model"], "cost": known}


def _texts(job: Row[Any], end: Mapping[str, Any]) -> dict[str, str]:
    """Return what was asked and answered, as the conventions write conversations."""
    asked = from_json(job.payload)
    turns = asked.get("messages") or [{"role": "user", "content": asked.get("prompt") or asked.get("text") or ""}]
    texts = {"gen_ai.input.messages": [_turn(turn["role"], turn.get("content") or "") for turn in turns]}
    answer = end.get("answer") or {}
    if answer.get("text") is not None:
        said = _turn("assistant", answer["text"]) | {"finish_reason": answer["finish_reason"]}
        texts["gen_ai.output.messages"] = [said]
    return {name: to_json(value).decode() for name, value in texts.items()}


def _turn(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text[:_CONTENT_CHARACTERS]}]}
