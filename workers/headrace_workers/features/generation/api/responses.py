"""Responses: answered at once, or in the background; retrieved, gone on from, cancelled, and forgotten."""

import re
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final

from fastapi import Request, Response

from headrace_schemas import GenerationJob, HeadraceError, Message
from headrace_schemas.codec import decode_job
from headrace_schemas.job import Lane
from headrace_workers.core.ledger.job_status import Standing
from headrace_workers.core.scopes import JOBS_READ, JOBS_WRITE
from headrace_workers.features.generation.api.answers import (
    admit_jobs,
    answer_of,
    context_of,
    ends_in_time,
    json_response,
    no_query,
    response_of,
)
from headrace_workers.features.generation.openai.request import WISHES, Body, OpenAIRequest, RequestContext, flag
from headrace_workers.features.generation.openai.response_body import (
    ended_body,
    input_items,
    job_id_of,
    page,
    response_of_item,
    unended_body,
)
from headrace_workers.features.generation.openai.responses import (
    PARAMETERS,
    continued,
    conversation,
    references,
    with_items,
)
from headrace_workers.features.generation.store.responses import Responses
from headrace_workers.http.bodies import json_object, parsed, unparsed
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import LedgerOutage, Refusal, Why
from headrace_workers.http.idempotency import TAKES_KEY, key_of
from headrace_workers.http.openai import ANSWERED, ERRORS, Parameters, Refused, refused, wrong
from headrace_workers.http.openai import body_of as described
from headrace_workers.http.paging import PAGE, After, Limit, Order
from headrace_workers.http.routes import Guarded, ReadsItsURL
from headrace_workers.http.services import Services, Wired
from headrace_workers.http.waiter import End, end_of

_JOB_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

router = ReadsItsURL(tags=["openai"], route_class=Guarded)
# In a URL all is text.
RETRIEVED: Final = Parameters(
    frozenset(),
    refused={"include": (), "include[]": (), "stream": ("false",), "starting_after": ()},
    unmeant={"include_obfuscation": ("false",)},
)
COUNTED: Final = Parameters(
    frozenset(
        {
            "model",
            "input",
            "instructions",
            "previous_response_id",
            "text",
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            WISHES,
        }
    ),
    refused={"conversation": (), "personality": (), "truncation": ("disabled",)},
    unmeant={"reasoning": ({}, {"effort": "none"})},
)  # fmt: skip
LISTED: Final = Parameters(
    frozenset({"after", "limit", "order"}),
    refused={"include": (), "include[]": ()},
)
_EXAMPLE: Final = {"model": "smollm2-135m-instruct", "input": "Name three rivers."}
Reads = Annotated[Caller, needs(JOBS_READ)]
Writes = Annotated[Caller, needs(JOBS_WRITE)]


@dataclass(frozen=True, slots=True)
class Stored:
    """A response that was asked for: what its body says, its job without the turns before, and when (s since 1970)."""

    job_id: str
    asked: Body
    job: GenerationJob
    asked_at: float


async def keep(services: Services, caller: Caller, job_id: str, body: Body, *, should_retry: bool | None) -> float:
    """Store the request of an admitted job, and return its time (s since 1970).

    `should_retry` tells whether another try would be the same job, if the ledger does not answer.
    """
    try:
        kept = await services.ask(services.ledger.of(Responses).keep, caller.tenant, job_id, unparsed(body))
    except LedgerOutage as error:
        raise LedgerOutage(f"{error}; the job will be run", should_retry=should_retry, job_id=job_id) from error
    if kept is None:
        raise Refusal(Why.CONFLICT, "another tenant's job has this id", should_retry=False)
    return kept.asked_at / 1000


async def find(services: Services, caller: Caller, response_id: str) -> Stored:
    """Return a response of the caller's by its id. Raise 404 if there is none."""
    job_id = job_id_of(response_id)
    if job_id is None or not _JOB_ID.fullmatch(job_id):
        raise _missing()
    kept = await services.ask(services.ledger.of(Responses).find, caller.tenant, job_id)
    if kept is None:
        raise _missing()
    body = parsed(kept.body)
    # What is told of a response does not depend on the turns before it.
    job = only_job(continued(body, RequestContext(caller.tenant, None, Lane.INTERACTIVE), ()))
    return Stored(job_id, PARAMETERS.given(body), job, kept.asked_at / 1000)


def only_job(read: OpenAIRequest) -> GenerationJob:
    """Return the job of a response that was read."""
    (job,) = read.jobs
    assert isinstance(job, GenerationJob)  # noqa: S101 - as every response's
    return job


async def body_of(services: Services, caller: Caller, stored: Stored) -> dict[str, Any]:
    """Return the response in its present state, without the instructions that the caller may not read."""
    standing = await services.standing(stored.job_id, caller.tenant)
    end = _end(standing)
    if end is not None:
        return ended_body(stored.asked, stored.job, stored.job_id, end, stored.asked_at)
    begun = any(step.started_at is not None for step in standing.steps)
    asked = stored.asked
    if not caller.may_read_texts(held=standing.is_held):
        asked = {**asked, "instructions": None}
    return unended_body(asked, stored.job, stored.job_id, "in_progress" if begun else "queued", stored.asked_at)


async def earlier(services: Services, caller: Caller, body: Body) -> tuple[Message, ...]:
    """Return the conversation that a request continues; none if it names no response. Raise Refused if it cannot
    continue.
    """
    response_id = body.get("previous_response_id")
    if response_id is None:
        return ()
    if not isinstance(response_id, str):
        raise wrong("previous_response_id", "must be text")
    stored = await find(services, caller, response_id)
    end = _end(await services.standing(stored.job_id, caller.tenant))
    if end is None:
        raise wrong("previous_response_id", "that response has not ended yet")
    known = await services.ask(services.ledger.jobs_of, [stored.job_id])
    job = decode_job(*known[stored.job_id]) if stored.job_id in known else stored.job
    assert isinstance(job, GenerationJob)  # noqa: S101 - as every response's
    return conversation(stored.asked, job, end)


async def spelled_out(services: Services, caller: Caller, body: Body) -> Body:
    """Return the body with the items of earlier responses to which its input refers. Raise Refused if one does not
    exist.
    """
    outputs: dict[str, list[dict[str, Any]]] = {}
    items: dict[int, dict[str, Any]] = {}
    for place, id in references(body).items():
        response_id = response_of_item(id)
        if response_id not in outputs:
            outputs[response_id] = await _output(services, caller, response_id)
        found = next((item for item in outputs[response_id] if item["id"] == id), None)
        if found is None:
            words = f"input[{place}].id: no stored response of this tenant has such an item: send the item itself"
            raise Refused(words, status=404, code=Why.NOT_FOUND.code, param=f"input[{place}].id")
        items[place] = found
    return with_items(body, items)


async def _output(services: Services, caller: Caller, response_id: str) -> list[dict[str, Any]]:
    try:
        told = await body_of(services, caller, await find(services, caller, response_id))
    except Refusal as error:
        if error.why is not Why.NOT_FOUND:
            raise
        return []
    output: list[dict[str, Any]] = told["output"]
    return output


def _end(standing: Standing) -> End | None:
    row = standing.row
    if row is not None and row.end is not None:
        return end_of(*row.end)
    return standing.refused


def _missing() -> Refusal:
    return Refusal(Why.NOT_FOUND, "this tenant has no response of this id", param="response_id")


@router.post(
    "/v1/responses",
    responses=ANSWERED,
    dependencies=[TAKES_KEY],
    openapi_extra=described(PARAMETERS, _EXAMPLE, model={"type": "string"}, input={"type": ["string", "array"]}),
)
async def create(request: Request, caller: Writes, services: Wired) -> Response:
    """Return a response when its job has ended; with `background`, return it at once, to be retrieved later. See
    docs/reference/openai.md.

    A client that hangs up meanwhile cancels the job where the response is neither stored nor keyed.
    """
    no_query(request)
    body = await json_object(request)
    given = PARAMETERS.given(body)
    body = await spelled_out(services, caller, body)
    read = continued(body, context_of(request, caller), await earlier(services, caller, given))
    (job_id,) = await admit_jobs(request, caller, services, read)
    asked_at, should_retry = None, None if key_of(request) is not None else False
    if flag(given, "store", default=True):
        asked_at = await keep(services, caller, job_id, body, should_retry=should_retry)
        if flag(given, "background"):
            return json_response(unended_body(given, only_job(read), job_id, "queued", asked_at))
    ends = await ends_in_time(request, caller, services, [job_id], keep=asked_at is not None or should_retry is None)
    answered = answer_of(read, ends)
    return response_of(read, answered if asked_at is None else {**answered, "created_at": int(asked_at)})


@router.post("/v1/responses/input_tokens", responses=ERRORS)
async def count_input_tokens(request: Request, caller: Writes, services: Wired) -> Response:
    """Return the number of tokens that a response's model would read, by its own tokenizer; an estimate for a model of
    a provider. Nothing is sent to a model.
    """
    no_query(request)
    body = await spelled_out(services, caller, COUNTED.given(await json_object(request)))
    asked = continued(body, context_of(request, caller), await earlier(services, caller, body))
    job = only_job(asked)
    try:
        resolved = (await services.admission.resolve([job]))[0][0].job
        assert isinstance(resolved, GenerationJob)  # noqa: S101 - it was one
        services.rules.check_model(resolved.first_model, caller.tenant)
        tokens = await services.admission.examinations.run(caller.tenant, partial(services.rules.examine, resolved))
    except HeadraceError as error:
        raise refused(error, asked.prompt, asked.names) from error
    return json_response({"object": "response.input_tokens", "input_tokens": tokens - resolved.sampling.max_tokens})


@router.get("/v1/responses/{response_id}", responses=ERRORS)
async def retrieve(response_id: str, request: Request, caller: Reads, services: Wired) -> Response:
    """Return a response in its present state."""
    RETRIEVED.given(request.query_params)
    return json_response(await body_of(services, caller, await find(services, caller, response_id)))


@router.get("/v1/responses/{response_id}/input_items", responses=ERRORS)
async def list_input_items(
    response_id: str,
    request: Request,
    caller: Reads,
    services: Wired,
    after: After = None,
    limit: Limit = PAGE,
    order: Order = "desc",
) -> Response:
    """Return the input items of a response, the last first.

    Earlier turns belong to the response that it continues. While its job is held, this needs `reviews:texts`.
    """
    LISTED.given(request.query_params)
    stored = await find(services, caller, response_id)
    caller.need_texts(held=(await services.standing(stored.job_id, caller.tenant)).is_held)
    return json_response(page(input_items(stored.asked, stored.job_id), after=after, limit=limit, order=order))


@router.post("/v1/responses/{response_id}/cancel", responses=ERRORS)
async def cancel(response_id: str, request: Request, caller: Writes, services: Wired) -> Response:
    """Cancel a background response. A response that has ended is returned as it is."""
    no_query(request)
    stored = await find(services, caller, response_id)
    if not flag(stored.asked, "background"):
        raise wrong("response_id", "only a response with background=true can be cancelled")
    await services.cancel([stored.job_id], caller.tenant, "cancelled by its sender")
    return json_response(await body_of(services, caller, stored))


@router.delete("/v1/responses/{response_id}", responses=ERRORS)
async def delete(response_id: str, request: Request, caller: Writes, services: Wired) -> Response:
    """Delete a response: it can neither be retrieved nor continued. Its job is not affected."""
    no_query(request)
    stored = await find(services, caller, response_id)
    await services.ask(services.ledger.of(Responses).drop, caller.tenant, stored.job_id)
    return json_response({"id": response_id, "object": "response.deleted", "deleted": True})
