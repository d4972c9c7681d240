"""A line that has ended, as its sender reads it, and what is counted of it. Pure.

The answer to a job of headrace stands in the output as `headrace run` writes receipts: the event, its type, the line's
number and its `custom_id`. The answer to an OpenAI request has OpenAI's shape, with the line's number. A line without
an answer stands in the error file in OpenAI's shape, whichever kind it was.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import Row

from headrace_schemas.codec import decode_value
from headrace_schemas.event_types import type_named
from headrace_schemas.events import DeadLetter, JobCancelled, Result
from headrace_schemas.recall import CacheTier
from headrace_schemas.topics import Topic
from headrace_workers.core.json_lines import NoJSON, parsed
from headrace_workers.features.batches.line_admission import NoJob, Terms, terms_of
from headrace_workers.features.batches.requests import job_ids, read
from headrace_workers.features.batches.store.batch_outputs import EndedLine, Fate, JobEnd
from headrace_workers.features.batches.store.batches import BATCH_CANCELLED, BATCH_EXPIRED, LOST
from headrace_workers.http.openai_errors import Refused

CANCELLED: Final = "cancelled"
_RUNS: Final = frozenset({"generate", "embed"})  # the stages in which a model runs for the job itself
_BEFORE: Final = frozenset({"ingest", "screen", "recall"})  # those that come ahead of it
_ASK_A_MODEL: Final = (Topic.GENERATION, Topic.EMBEDDING)  # the topics of jobs that have such a stage
_JUDGES: Final = "rubric"  # and the one in which it reads question and answer


class Written(NamedTuple):
    """A line for the output, or, when it failed, for the error file; and what is counted of it."""

    text: bytes
    fate: Fate


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The view of a batch's lines at its end: their tenant, and if the batch was cancelled or is late."""

    terms: Terms
    cancelled: bool
    late: bool

    @classmethod
    def of(cls, batch: Row[Any], now: int) -> "Circumstances":
        """Return the circumstances of a batch at this time by the ledger's clock (ms)."""
        return cls(terms_of(batch), batch.cancelling_at is not None, batch.expires_at <= now)


def written(line: EndedLine, seen: Circumstances) -> Written:
    """Return what to write of a line."""
    if line.code is not None or not line.ends:
        code = line.code or LOST
        return _failed(
            line, seen, code, line.reason or "its job is not known any more", None, spent=0, param=line.param
        )
    if line.text is not None:
        return _answered_request(line, line.text, seen)
    (end,) = line.ends
    event = from_json(end.event)
    kind = type_named(end.event_type)
    if kind is not None and kind.cls is Result:
        return Written(_receipt(line, end), _answered(line, event))
    code, reason = why(event, kind.cls if kind else None, seen)
    return _failed(line, seen, code, reason, receipt_of(end, event), spent=_spent_in_vain(line, event))


def _answered_request(line: EndedLine, text: bytes, seen: Circumstances) -> Written:
    """The answer to a request, made of all its jobs' ends."""
    try:
        request = read(parsed(text), line.number, seen.terms)
    except (NoJob, NoJSON) as error:  # a version that no longer reads it
        return _failed(line, seen, LOST, f"the line cannot be read any more: {error}", None, spent=0)
    by_id = {end.job_id: end for end in line.ends}
    ends = [by_id[job_id] for job_id in job_ids(request) if job_id in by_id]
    if len(ends) < len(request.jobs):
        return _failed(line, seen, LOST, "its jobs are not known any more", None, spent=0)
    events = [from_json(end.event) for end in ends]
    classes = [kind.cls if (kind := type_named(end.event_type)) else None for end in ends]
    fates = [
        _answered(line, event) if cls is Result else Fate(line, spent=_spent_in_vain(line, event))
        for cls, event in zip(classes, events, strict=True)
    ]
    fate = Fate(
        line,
        cached=all(each.cached for each in fates),
        prompt_tokens=sum(each.prompt_tokens for each in fates),
        completion_tokens=sum(each.completion_tokens for each in fates),
        spent=sum(each.spent for each in fates),
    )
    try:
        body = request.answer([decode_value(end.event_type, end.event) for end in ends])  # type: ignore[misc]
    except Refused as error:
        code, reason = error.code or "refused", str(error)
        for cls, event in zip(classes, events, strict=True):
            if cls is not Result:
                code, reason = why(event, cls, seen)
                break
        response = {"status_code": error.status, "request_id": ends[0].job_id, "body": error.body()}
        failed = _failed(line, seen, code, reason, receipt_of(ends[0], events[0]), spent=fate.spent, response=response,
                         param=error.param)  # fmt: skip
        return failed._replace(fate=replace(fate, code=code))
    output = {
        "id": request_id(line, seen),
        "custom_id": line.custom_id,
        "line": line.number,
        "response": {"status_code": 200, "request_id": ends[0].job_id, "body": body},
        "error": None,
    }
    return Written(to_json(output) + b"\n", fate)


def why(event: dict[str, Any], cls: type | None, seen: Circumstances) -> tuple[str, str]:
    """Code and reason of an end without an answer."""
    if cls is JobCancelled:
        reason = event.get("reason") or "it was cancelled"
        return (BATCH_CANCELLED if seen.cancelled else CANCELLED), reason
    if cls is DeadLetter:
        category = str(event["category"])
        code = event.get("failure") or event.get("code") or category
        return (BATCH_EXPIRED if category == "expired" and seen.late else code), str(event["reason"])
    return LOST, "its end cannot be read by this version"


def _receipt(line: EndedLine, end: JobEnd) -> bytes:
    head: dict[str, Any] = {"line": line.number}
    if line.custom_id is not None:
        head["custom_id"] = line.custom_id
    head["type"] = end.event_type
    return to_json(head)[:-1] + b"," + end.event[1:] + b"\n"


def _failed(
    line: EndedLine,
    seen: Circumstances,
    code: str,
    reason: str,
    receipt: dict[str, Any] | None,
    *,
    spent: int,
    response: dict[str, Any] | None = None,
    param: str | None = None,
) -> Written:
    body: dict[str, Any] = {
        "id": request_id(line, seen),
        "custom_id": line.custom_id,
        "line": line.number,
        "response": response,
        "error": {"code": code, "message": reason, "param": param},
    }
    if receipt is not None:
        body["receipt"] = receipt
    return Written(to_json(body) + b"\n", Fate(line, code, spent=spent))


def request_id(line: EndedLine, seen: Circumstances) -> str:
    """Return OpenAI's name of the request of a line."""
    return f"batch_req_{seen.terms.batch_id.removeprefix('batch_')}_{line.number}"


def receipt_of(end: JobEnd, event: dict[str, Any]) -> dict[str, Any]:
    """The end of a job without its texts: what was asked, and what was answered, stand elsewhere."""
    kept = {name: value for name, value in event.items() if name != "original"}
    if isinstance(answer := kept.get("answer"), dict):
        kept["answer"] = {name: value for name, value in answer.items() if name != "text"}
    return {"type": end.event_type, **kept}


def _answered(line: EndedLine, event: dict[str, Any]) -> Fate:
    answer = event.get("answer") or {}
    usage = answer.get("usage") or (event.get("embedding") or {}).get("usage") or {}
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    tier = (answer.get("recall") or {}).get("tier", CacheTier.NONE.value)
    cached = tier != CacheTier.NONE.value
    return Fate(
        line,
        cached=cached,
        prompt_tokens=prompt,
        completion_tokens=completion,
        spent=spent(line, event, prompt + completion),
    )


def spent(line: EndedLine, event: dict[str, Any], used: int) -> int:
    """Return the cost of an answer: the tokens `used`, the possible cost of failed attempts, and the tokens that judges
    read.

    Of an answer that was made again `used` has the tokens of all together, and a judge read one of them each time.
    """
    stages = event.get("stages", ())
    runs: list[int] = [stage["attempt"] for stage in stages if stage["stage"] in _RUNS]
    read: int = sum(stage["attempt"] for stage in stages if stage["stage"] == _JUDGES)
    failed = sum(runs) - len(runs)
    return (used if runs else 0) + failed * line.tokens + math.ceil(read * used / max(1, len(runs)))


def _spent_in_vain(line: EndedLine, event: dict[str, Any]) -> int:
    """Return the tokens charged for runs without an answer. Their true use is unknown, so each counts as its
    reservation. If a later stage failed, the model ran once at most (not at all if a person withheld the job), however
    often the stage was tried. If an earlier stage failed, the model did not run.
    """
    ran = any(stage["stage"] in _RUNS for stage in event.get("stages", ()))
    tried, stage = int(event.get("attempts", 0)), event.get("stage")
    if stage in _BEFORE:
        tried = 0
    elif stage not in _RUNS:
        tried = 1 if event.get("topic") in _ASK_A_MODEL else min(1, tried)
    return line.tokens * max(tried, int(ran))
