"""From published events to deliveries: who is told of the end of a job, and in which words."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf
from typing import Any, Final

from headrace_schemas import DeadLetter, JobCancelled, JobHeld, Result
from headrace_schemas.callback import MAX_BODY, Callback
from headrace_schemas.codec import decode_value
from headrace_workers.core.ledger.event_units import NewUnit
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outbox import Outgoing
from headrace_workers.features.webhooks.store.deliveries import NewDelivery, body, message_id, origin_of, unit
from headrace_workers.features.webhooks.store.endpoints import Heard, place_id
from headrace_workers.features.webhooks.store.webhooks import Webhooks

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


def tuning_name_of(end: End) -> str | None:
    """Return OpenAI's name for the end of a fine-tuning job; it has none for a job that is held."""
    match end:
        case Result():
            return "fine_tuning.job.succeeded"
        case JobCancelled():
            return "fine_tuning.job.cancelled"
        case JobHeld():
            return None
    return "fine_tuning.job.failed"


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


def of_run(end: End, run: str, value: bytes, message: str, at_ms: int, whole: bool, wording: Wording) -> bytes:
    """The body about a fine-tuning job of OpenAI's API."""
    head = {"id": run, "link": f"{wording.base}/v1/fine_tuning/jobs/{run}"}
    return _fitting(tuning_name_of(end) or name_of(end), head, value if whole else None, message, at_ms, wording)


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
                **({} if (made := end.answer or end.decisions or end.tuned) is None else {
                    "model": made.model, "finish_reason": end.answer.finish_reason if end.answer else None,
                    "usage": made.usage.model_dump(exclude_none=True),
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


_MET_SECONDS: Final = 60.0  # a place that was met is not met again for so long
_MOST_MET: Final = 10_000
_TOLD: Final = frozenset(
    {"headrace.result.v1", "headrace.job.cancelled.v1", "headrace.dead.v1", "headrace.job.held.v1"}
)


@dataclass(frozen=True, slots=True)
class _Ended:
    """An end that somebody listens to."""

    job_id: str
    event_id: str
    end: End
    value: bytes
    at_ms: int
    heard: Heard
    callback: Callback | None

    @property
    def response(self) -> str | None:
        """The id of OpenAI's response that this job is."""
        return f"resp_{self.job_id}" if self.callback and self.callback.response else None

    @property
    def other_name(self) -> str | None:
        """OpenAI's name for this end, where the job is a response or a fine-tuning job."""
        if self.heard.kind == "tuning":
            return tuning_name_of(self.end)
        return response_name_of(self.end) if self.response else None


@dataclass(frozen=True, slots=True)
class _Recipient:
    """One of those who are told: under which name, and where to if not to the endpoint's own URL."""

    endpoint_id: str
    name: str
    whole: bool
    url: str | None = None


class Telling:
    """Makes the deliveries that follow from ends. Where nobody listens it asks the ledger once for each batch of
    records that has an end in it, and that is all it does. Thread-safe.

    That nobody listens is `believed` for so many seconds: more than 0 only where another looks again at all ends.
    """

    def __init__(self, ledger: Ledger, wording: Wording, believed: float = 0.0) -> None:
        self._ledger = ledger
        self._wording = wording
        self._believed = believed
        self._nobody_until = -inf
        self._met: dict[str, float] = {}  # places, and when they were met
        self._listened = False  # somebody did to the last ends

    def units(self, records: Sequence[Outgoing], now: int) -> list[NewUnit]:
        """The deliveries that follow from these records, at `now` (ms by the ledger's clock)."""
        ends = [record for record in records if record.key is not None and record.headers["ce_type"] in _TOLD]
        if not ends or time.monotonic() < self._nobody_until:
            return []
        heard = self._ledger.of(Webhooks).heard(
            [record.key for record in ends if record.key is not None], likely=self._listened
        )
        self._listened = bool(heard)
        if heard is None:
            self._nobody_until = time.monotonic() + self._believed
        if not heard:
            return []
        ended = [each for record in ends if (each := _read(record, heard.get(record.key or ""))) is not None]
        self._meet(ended)
        named = self._named(ended)
        return [self._unit(item, told, now) for item in ended for told in _recipients(item, named)]

    def _meet(self, ended: Sequence[_Ended]) -> None:
        """Let the ledger know of the places that callbacks name."""
        places = {
            place_id(item.heard.tenant, origin): (item.heard.tenant, origin)
            for item in ended
            if item.callback is not None and item.callback.url is not None
            for origin in [origin_of(item.callback.url)]
        }
        now = time.monotonic()
        if new := {name: place for name, place in places.items() if now - self._met.get(name, -inf) > _MET_SECONDS}:
            self._ledger.of(Webhooks).met(new)
            if len(self._met) > _MOST_MET:
                self._met.clear()
            self._met |= dict.fromkeys(new, now)

    def _named(self, ended: Sequence[_Ended]) -> frozenset[str]:
        """Of the endpoints that callbacks name, those that are told the whole receipt."""
        names = [item.callback.endpoint for item in ended if item.callback and item.callback.endpoint]
        return self._ledger.of(Webhooks).told_whole(names) if names else frozenset()

    def _unit(self, ended: _Ended, told: _Recipient, now: int) -> NewUnit:
        message = message_id(ended.event_id, told.name, told.endpoint_id)
        subject: str | None = None
        write: Callable[[End, str, bytes, str, int, bool, Wording], bytes] = of_job
        if told.name.startswith("response."):
            subject, write = ended.response, of_response
        elif told.name.startswith("fine_tuning."):
            subject, write = f"ftjob-{ended.job_id}", of_run
        content = write(
            ended.end, subject or ended.job_id, ended.value, message, ended.at_ms, told.whole, self._wording
        )
        delivery = NewDelivery(
            id=message,
            endpoint_id=told.endpoint_id,
            tenant=ended.heard.tenant,
            type=told.name,
            subject=(subject or ended.job_id)[:64],
            body=content,
            url=told.url,
        )
        return unit(delivery, ended.job_id, now)


def _read(record: Outgoing, heard: Heard | None) -> _Ended | None:
    """An end; None where nobody listens, or where it is about a record that never was a job."""
    if heard is None or record.key is None:
        return None
    end = decode_value(record.headers["ce_type"], record.value)
    assert isinstance(end, Result | JobCancelled | DeadLetter | JobHeld)  # noqa: S101 - by its type
    if end.job_id != record.key:
        return None
    callback = Callback.model_validate_json(heard.callback) if heard.callback else None
    at_ms = int(datetime.fromisoformat(record.headers["ce_time"]).timestamp() * 1000)
    return _Ended(record.key, record.headers["ce_id"], end, record.value, at_ms, heard, callback)


def _recipients(ended: _Ended, whole: frozenset[str]) -> Iterator[_Recipient]:
    """Return the listeners: registered endpoints for each event type, and the place that the job names.

    `whole` are the endpoints that are told all.
    """
    name = name_of(ended.end)
    names = [name, *([named] if (named := ended.other_name) else [])]
    for listener in ended.heard.endpoints:
        for text in names:
            if text in listener.events:
                yield _Recipient(listener.endpoint_id, text, listener.whole)
    callback = ended.callback
    if callback is None or name not in callback.wanted:
        return
    if callback.url is not None:
        yield _Recipient(place_id(ended.heard.tenant, origin_of(callback.url)), names[-1], False, callback.url)
    elif callback.endpoint is not None:
        yield _Recipient(callback.endpoint, names[-1], callback.endpoint in whole)
