"""A job's way as server-sent events: https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from headrace_workers.core.ledger.job_status import Standing
from headrace_workers.core.scopes import JOBS_READ
from headrace_workers.features.jobs.api.job_events import END, facts_of, news
from headrace_workers.features.jobs.api.jobs import Reads, standing_of
from headrace_workers.http.caller import admit, bearer
from headrace_workers.http.errors import Refusal
from headrace_workers.http.services import Services, Wired
from headrace_workers.http.shapes import ANSWERS, STREAM

router = APIRouter(tags=["jobs"])

_SIGN_OF_LIFE: Final = b": \n\n"  # a comment, so that nobody on the way takes the connection for dead
_QUIET_TURNS: Final = 15  # turns of a second, at most
_LATER: Final = b"retry: 1000\n\n"
LastId = Annotated[str | None, Header(alias="Last-Event-ID", description="Continue after the event with this id.")]


@router.get("/v1/jobs/{job_id}/events", response_class=StreamingResponse, responses={**STREAM, **ANSWERS})
async def follow(
    request: Request, job_id: str, caller: Reads, services: Wired, last_event_id: LastId = None
) -> StreamingResponse:
    """Stream the progress of a job: `accepted`, a `step` each time that a step changes, and `end`, the last event.

    A state that passes between two looks is left out. The stream also ends when the key is revoked.
    """
    standing = await standing_of(services, caller, job_id)
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
        found = news(facts_of(job_id, standing), last)
        for fact in found:
            last = fact.event_id(last)
            yield fact.sent(last)
        if last == END or services.waiter.stopping:
            return
        quiet = 0 if found else quiet + 1
        if quiet % _QUIET_TURNS == _QUIET_TURNS - 1:
            yield _SIGN_OF_LIFE
        await services.waiter.turn()
        try:
            await admit(request, bearer(request), JOBS_READ)  # a job may be held for weeks, and its key revoked
            standing = await services.standing(job_id, tenant)
        except Refusal:  # revoked, the ledger is away, or the job was forgotten: the client asks again for the reason
            return
