"""Responses: answered at once, or in the background; retrieved, gone on from, cancelled, and forgotten."""

from functools import partial
from typing import Annotated, Final

from fastapi import Request, Response

from headrace_schemas import HeadraceError
from headrace_workers.core.scopes import JOBS_READ, JOBS_WRITE
from headrace_workers.features.generation.api.openai_answers import (
    answer_of,
    asker,
    ended,
    json_response,
    let_in,
    no_query,
    response_of,
)
from headrace_workers.features.generation.api.stored_responses import (
    body_of,
    earlier,
    find,
    keep,
    only_job,
    spelled_out,
)
from headrace_workers.features.generation.openai.flags import flag
from headrace_workers.features.generation.openai.input_items import input_items, page
from headrace_workers.features.generation.openai.response_body import unended
from headrace_workers.features.generation.openai.responses import PARAMETERS, continued
from headrace_workers.features.generation.store.responses import Responses
from headrace_workers.http.authenticated_route import Guarded
from headrace_workers.http.bodies import json_object
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.idempotency import TAKES_KEY, key_of
from headrace_workers.http.openai_errors import refused, wrong
from headrace_workers.http.openai_parameters import Parameters
from headrace_workers.http.openai_shapes import ANSWERED, ERRORS
from headrace_workers.http.openai_shapes import body_of as described
from headrace_workers.http.paging import PAGE, After, Limit, Order
from headrace_workers.http.query import ReadsItsURL
from headrace_workers.http.services import Wired

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
    read = continued(body, asker(request, caller), await earlier(services, caller, given))
    (job_id,) = await let_in(request, caller, services, read)
    asked_at, should_retry = None, None if key_of(request) is not None else False
    if flag(given, "store", default=True):
        asked_at = await keep(services, caller, job_id, body, should_retry=should_retry)
        if flag(given, "background"):
            return json_response(unended(given, only_job(read), job_id, "queued", asked_at))
    ends = await ended(request, caller, services, [job_id], keep=asked_at is not None or should_retry is None)
    answered = answer_of(read, ends)
    return response_of(read, answered if asked_at is None else {**answered, "created_at": asked_at})


@router.post("/v1/responses/input_tokens", responses=ERRORS)
async def count_input_tokens(request: Request, caller: Writes, services: Wired) -> Response:
    """Return the number of tokens that a response's model would read, by its own tokenizer; an estimate for a model of
    a provider. Nothing is sent to a model.
    """
    no_query(request)
    body = await spelled_out(services, caller, COUNTED.given(await json_object(request)))
    asked = continued(body, asker(request, caller), await earlier(services, caller, body))
    job = only_job(asked)
    try:
        services.rules.check_model(job.first_model)
        tokens = await services.admission.examinations.run(caller.tenant, partial(services.rules.examine, job))
    except HeadraceError as error:
        raise refused(error, asked.prompt, asked.names) from error
    return json_response({"object": "response.input_tokens", "input_tokens": tokens - job.sampling.max_tokens})


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

    Earlier turns belong to the response that it continues.
    """
    LISTED.given(request.query_params)
    stored = await find(services, caller, response_id)
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
