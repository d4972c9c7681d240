"""The body of a webhook: the head of a receipt and a link, or on request the whole receipt. Pure."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headrace_schemas import DeadLetter, JobCancelled, JobHeld, Result
from headrace_schemas.callback import MAX_BODY
from headrace_workers.features.webhooks.store.deliveries import body

End = Result | JobCancelled | DeadLetter | JobHeld


@dataclass(frozen=True, slots=True)
class Wording:
    """The form of a deployment's webhooks: a body of at most `most` bytes, and links below `base`."""

    most: int = MAX_BODY
    base: str = ""


def name_of(end: End) -> str:
    """Return the event type of an end, or of a held job, which is not an end."""
    match end:
        case Result():
            return "job.completed"
        case JobCancelled():
            return "job.cancelled"
        case JobHeld():
            return "job.held"
    return "job.failed"


def response_name_of(end: End) -> str | None:
    """Return OpenAI's name for the end of a response. One that was cut short or withheld is incomplete; that one is
    held has no name of theirs.
    """
    match end:
        case Result():
            cut = end.answer is not None and end.answer.finish_reason == "length"
            return "response.incomplete" if cut or end.status == "blocked" else "response.completed"
        case DeadLetter(failure="truncated"):
            return "response.incomplete"
        case JobCancelled():
            return "response.cancelled"
        case JobHeld():
            return None
    return "response.failed"


def of_job(end: End, job_id: str, value: bytes, message: str, at_ms: int, whole: bool, wording: Wording) -> bytes:
    """The body about a job. `value` is the end as it was published."""
    head = {**_head(end, job_id), "link": f"{wording.base}/v1/jobs/{job_id}"}
    return _fitting(name_of(end), head, value if whole else None, message, at_ms, wording)


def of_response(
    end: End, response: str, value: bytes, message: str, at_ms: int, whole: bool, wording: Wording
) -> bytes:
    """The body about a response of OpenAI's API."""
    head = {"id": response, "link": f"{wording.base}/v1/responses/{response}"}
    return _fitting(response_name_of(end) or name_of(end), head, value if whole else None, message, at_ms, wording)


def _fitting(
    name: str, head: Mapping[str, Any], value: bytes | None, message: str, at_ms: int, wording: Wording
) -> bytes:
    """The fullest of these that is small enough; the last one always is."""
    made = b""
    for data in _ever_less(head, value):
        made = body(message=message, event_type=name, at_ms=at_ms, data=data)
        if len(made) <= wording.most:
            break
    return made


def _ever_less(head: Mapping[str, Any], value: bytes | None) -> Iterator[Mapping[str, Any]]:
    if value is not None:
        yield {**head, "receipt": json.loads(value)}
        head = {**head, "shortened": True}
    yield head
    short = {
        name: said for name, said in head.items() if name not in ("metadata", "reason", "place", "idempotency_key")
    }
    yield {**short, "shortened": True}


def _head(end: End, job_id: str) -> dict[str, Any]:
    match end:
        case Result():
            return _present({
                "id": job_id, "tenant": end.tenant, "status": end.status, "kind": end.kind,
                "idempotency_key": end.idempotency_key, "metadata": end.metadata or None,
                "accepted_at": end.accepted_at.isoformat(), "total_ms": end.total_ms,
                **({} if end.answer is None else {
                    "model": end.answer.model, "finish_reason": end.answer.finish_reason,
                    "usage": end.answer.usage.model_dump(exclude_none=True),
                }),
                "moderation": end.moderation.action if end.moderation else None,
            })  # fmt: skip
        case JobHeld():
            return {
                "id": job_id,
                "tenant": end.tenant,
                "status": "held",
                "stage": end.stage,
                "reason": end.reason,
                "needs_person": end.needs_person,
            }
        case JobCancelled():
            return {"id": job_id, "tenant": end.tenant, "status": "cancelled", "reason": end.reason}
    return _present({
        "id": job_id, "tenant": end.tenant, "status": "failed", "category": str(end.category), "code": end.code,
        "reason": end.reason,
        "failure": end.failure, "place": end.place, "stage": end.stage, "attempts": end.attempts,
    })  # fmt: skip


def _present(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: said for name, said in facts.items() if said is not None}
