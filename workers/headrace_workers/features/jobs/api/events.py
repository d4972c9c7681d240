"""The progress of a job as server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from headrace_workers.cli.job_views import StepObject, job_json
from headrace_workers.core.ledger.job_status import Standing
from headrace_workers.core.scopes import JOBS_READ
from headrace_workers.features.jobs.api.jobs import Reads, is_over
from headrace_workers.http.caller import admit, bearer
from headrace_workers.http.errors import ANSWERS, STREAM, Refusal
from headrace_workers.http.services import Services, Wired

ACCEPTED: Final = "accepted"
END: Final = "end"
_NUMBERED: Final = re.compile(r";([0-9]{1,9})$")  # an event's id: after its fact's, its number in the stream

router = APIRouter(tags=["jobs"])
_SIGN_OF_LIFE: Final = b": \n\n"  # a comment, so that nobody on the way takes the connection for dead
_QUIET_TURNS: Final = 15  # turns of a second, at most
_LATER: Final = b"retry: 1000\n\n"
LastId = Annotated[str | None, Header(alias="Last-Event-ID", description="Continue after the event with this id.")]


@dataclass(frozen=True, slots=True)
class Fact:
    """An event of a stream. `place` is what it is about; a later fact replaces an earlier one of the same place."""

    id: str
    event: Literal["accepted", "step", "end"]
    data: bytes
    place: str

    def sent(self, event_id: str) -> bytes:
        """Return it as server-sent events write it. JSON has no line feeds."""
        return b"id: %s\nevent: %s\ndata: %s\n\n" % (event_id.encode(), self.event.encode(), self.data)

    def event_id(self, last: str | None) -> str:
        """Return the id of its event, which comes after the event `last`. No two events of a stream have the same: a
        step may be in one state more than once, and so these are numbered, also where a client goes on.
        """
        if self.event != "step":
            return self.id
        before = _NUMBERED.search(last or "")
        return f"{self.id};{int(before[1]) + 1 if before else 1}"


def facts_of(job_id: str, standing: Standing) -> list[Fact]:
    """Return the facts about a job: its acceptance, each of its steps in its present state, and its end."""
    facts = [Fact(ACCEPTED, "accepted", json.dumps({"id": job_id}, separators=(",", ":")).encode(), ACCEPTED)]
    for step in standing.steps:
        place = f"{step.stage}.{step.ordinal}"
        facts.append(
            Fact(f"{place}.{step.attempts}.{step.state}", "step", StepObject.of(step).model_dump_json().encode(), place)
        )
    if is_over(standing):
        facts.append(Fact(END, "end", job_json(job_id, standing), END))
    return facts


def news(facts: list[Fact], last: str | None) -> list[Fact]:
    """Return the facts after the event of this id, and changed facts at its place.

    A client that names no event of this job gets all facts.
    """
    if last is None:
        return facts
    last = last.partition(";")[0]
    for number, fact in enumerate(facts):
        if fact.id == last:
            return facts[number + 1 :]
    places = [number for number, fact in enumerate(facts) if last.startswith(f"{fact.place}.")]
    return facts[places[0] :] if places else facts


@router.get("/v1/jobs/{job_id}/events", response_class=StreamingResponse, responses={**STREAM, **ANSWERS})
async def follow(
    request: Request, job_id: str, caller: Reads, services: Wired, last_event_id: LastId = None
) -> StreamingResponse:
    """Stream the progress of a job: `accepted`, a `step` each time that a step changes, and `end`, the last event.

    A state that passes between two looks is left out. The stream also ends when the key is revoked.
    """
    standing = await services.standing(job_id, caller.tenant)
    slot = await services.streams.take(caller.tenant)
    stream = _stream(request, services, job_id, standing, last_event_id)
    return _Held(
        slot.release,
        stream,
        media_type="text/event-stream",
        headers={"cache-control": "no-store"},
    )


class _Held(StreamingResponse):
    """A stream that gives back its slot when it ends, however it ends."""

    def __init__(self, ended: Callable[[], object], *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ended = ended

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


async def _stream(
    request: Request, services: Services, job_id: str, standing: Standing, last: str | None
) -> AsyncIterator[bytes]:
    quiet = 0
    tenant = standing.tenant
    yield _LATER
    while True:
        facts = news(facts_of(job_id, standing), last)
        for fact in facts:
            last = fact.event_id(last)
            yield fact.sent(last)
        if last == END or services.waiter.stopping:
            return
        quiet = 0 if facts else quiet + 1
        if quiet % _QUIET_TURNS == _QUIET_TURNS - 1:
            yield _SIGN_OF_LIFE
        await services.waiter.turn()
        try:
            await admit(request, bearer(request), JOBS_READ)  # a job may be held for weeks, and its key revoked
            standing = await services.standing(job_id, tenant)
        except Refusal:  # revoked, the ledger is away, or the job was forgotten: the client asks again for the reason
            return
