"""Requests of OpenAI's clients that wait: read into jobs, admitted, waited for, and answered as OpenAI would."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response

from headrace_schemas.envelope import is_traceparent
from headrace_schemas.errors import HeadraceError
from headrace_schemas.job import Lane
from headrace_workers.core.log import Action, log
from headrace_workers.core.scopes import JOBS_WRITE
from headrace_workers.features.generation.openai import chat, completions
from headrace_workers.features.generation.openai.generation import is_truncated
from headrace_workers.features.generation.openai.request import Body, OpenAIRequest, RequestContext
from headrace_workers.http.bodies import json_object
from headrace_workers.http.caller import Caller, check_named, needs
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.hangup import ClientGone, while_here
from headrace_workers.http.idempotency import TAKES_KEY, key_of
from headrace_workers.http.openai import ANSWERED, End, Parameters, body_of, refused
from headrace_workers.http.routes import fast_route
from headrace_workers.http.services import Services, Wired
from headrace_workers.http.waiter import End as JobEnd
from headrace_workers.runtime.settings import GatewaySettings

router = APIRouter(tags=["openai"], route_class=fast_route(JOBS_WRITE), dependencies=[TAKES_KEY])

_CHAT_EXAMPLE = {"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "Name three rivers."}]}
_PROMPT_EXAMPLE = {"model": "smollm2-135m-instruct", "prompt": "Name three rivers."}
_NO_QUERY: Final = Parameters(frozenset())


@router.post(
    "/v1/chat/completions",
    responses=ANSWERED,
    openapi_extra=body_of(chat.PARAMETERS, _CHAT_EXAMPLE, model={"type": "string"}, messages={"type": "array"}),
)
async def complete_chat(request: Request, caller: Annotated[Caller, needs(JOBS_WRITE)], services: Wired) -> Response:
    """Return an answer to a conversation when its job has ended. See docs/reference/openai.md."""
    return await answer(request, caller, services, chat.read)


@router.post(
    "/v1/completions",
    responses=ANSWERED,
    openapi_extra=body_of(
        completions.PARAMETERS, _PROMPT_EXAMPLE, model={"type": "string"}, prompt={"type": ["string", "array"]}
    ),
)
async def complete(request: Request, caller: Annotated[Caller, needs(JOBS_WRITE)], services: Wired) -> Response:
    """Return an answer to each prompt when all their jobs have ended. See docs/reference/openai.md."""
    return await answer(request, caller, services, completions.read)


async def answer(
    request: Request, caller: Caller, services: Services, read: Callable[[Body, RequestContext], OpenAIRequest]
) -> Response:
    """Return the answer to a request when its jobs have ended: a body, or its chunks as server-sent events.

    A client that hangs up meanwhile cancels the jobs, except under an idempotency key. Raise Refused for a request that
    `read` refuses and for a job without an answer, and what `admit_jobs` and `ends_in_time` raise.
    """
    asked = read(await json_object(request), context_of(request, caller))
    job_ids = await admit_jobs(request, caller, services, asked)
    ends = await ends_in_time(request, caller, services, job_ids, keep=key_of(request) is not None)
    return response_of(asked, answer_of(asked, ends))


def context_of(request: Request, caller: Caller) -> RequestContext:
    """Return the asker of a request; its lane is interactive, since somebody waits."""
    return RequestContext(caller.tenant, key_of(request), Lane.INTERACTIVE)


def no_query(request: Request) -> None:
    """Raise Refused if the URL has a parameter: it would be ignored."""
    _NO_QUERY.given(request.query_params)


async def admit_jobs(request: Request, caller: Caller, services: Services, asked: OpenAIRequest) -> list[str]:
    """Admit the jobs of a request and return their ids. Raise Refused if they cannot be run."""
    await services.rates.take(caller.tenant, len(asked.jobs) - 1)
    check_named(caller, asked.jobs)
    traceparent = request.headers.get("traceparent", "")
    try:
        return await services.admission.submit(
            caller, asked.jobs, traceparent=traceparent if is_traceparent(traceparent) else None
        )
    except Refusal:
        raise
    except HeadraceError as error:
        raise refused(error, asked.prompt, asked.names) from error


async def ends_in_time(
    request: Request, caller: Caller, services: Services, job_ids: Sequence[str], *, keep: bool
) -> list[End]:
    """Return the ends of these jobs, in order.

    Raise 504 with the id of a job that has not ended in time. It goes on, and another request would be a second job,
    except under an idempotency key.
    """
    seconds = services.settings.of(GatewaySettings).max_answer_wait
    ends = await ends_of(request, services, caller, job_ids, seconds=seconds, keep=keep)
    should_retry = None if key_of(request) is not None else False
    for job_id in job_ids:
        if job_id not in ends:
            goes_on = f"the job {job_id} goes on: GET /v1/jobs/{job_id} tells how it stands"
            if services.waiter.stopping:
                raise Refusal(
                    Why.STOPPING, f"this gateway is stopping; {goes_on}", should_retry=should_retry, job_id=job_id
                )
            raise Refusal(
                Why.TIMEOUT, f"no end within {seconds:g} s; {goes_on}", should_retry=should_retry, job_id=job_id
            )
    return [ends[job_id] for job_id in job_ids]


async def ends_of(
    request: Request, services: Services, caller: Caller, job_ids: Sequence[str], *, seconds: float, keep: bool
) -> dict[str, JobEnd]:
    """Return the ends of the jobs that end within `seconds`. The request's body must have been read.

    If the client hangs up meanwhile, cancel the jobs and raise ClientGone, since nobody would see their answers.
    With `keep` the jobs go on: they are stored or have an idempotency key, so that the client can ask again.
    """
    try:
        return await while_here(request, services.waiter.ends(job_ids, seconds))
    except ClientGone:
        if not keep:
            await asyncio.shield(_cancel(services, caller, job_ids))
        raise


async def _cancel(services: Services, caller: Caller, job_ids: Sequence[str]) -> None:
    try:
        await services.cancel_abandoned(job_ids, caller.tenant, "the client hung up before it was answered")
    except Refusal as error:  # the jobs run on, and nobody is there to be told
        log("gateway", logging.WARNING, Action.UNAVAILABLE, f"jobs of a client that is gone run on: {error}",
            jobs=len(job_ids))  # fmt: skip


def response_of(asked: OpenAIRequest, body: Body) -> Response:
    """Return a body as the client wants it: whole, or in chunks."""
    if not asked.stream or asked.chunks is None:
        return json_response(body)
    return Response(
        b"".join(_events(asked.chunks(body))), media_type="text/event-stream", headers={"cache-control": "no-cache"}
    )


def answer_of(asked: OpenAIRequest, ends: Sequence[End]) -> Body:
    """Return the answer to a request of which these are the ends.

    A job that was truncated is told as OpenAI tells a length that was reached: its clients know that, and each has an
    error of its own for it. Raise Refused for other ends without an answer.
    """
    if asked.cut is not None and len(ends) == 1 and is_truncated(ends[0]):
        return asked.cut(ends[0])
    return asked.answer(ends)


def json_response(body: Mapping[str, Any], status: int = 200) -> Response:
    """Return a response of JSON."""
    return Response(_json(body), status, media_type="application/json")


def _events(chunks: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    """Yield chunks as server-sent events. Those of a response have names; others end with a mark."""
    named = False
    for chunk in chunks:
        named = "type" in chunk
        if named:
            yield f"event: {chunk['type']}\n".encode()
        yield b"data: " + _json(chunk) + b"\n\n"
    if not named:
        yield b"data: [DONE]\n\n"


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
