"""Completions of prompts."""

from typing import Annotated

from fastapi import APIRouter, Request, Response

from headrace_workers.core.scopes import JOBS_WRITE
from headrace_workers.features.generation.api.openai_answers import answer
from headrace_workers.features.generation.openai.completions import PARAMETERS, read
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.fast_routes import fast_route
from headrace_workers.http.idempotency import TAKES_KEY
from headrace_workers.http.openai_shapes import ANSWERED, body_of
from headrace_workers.http.services import Wired

router = APIRouter(tags=["openai"], route_class=fast_route(JOBS_WRITE), dependencies=[TAKES_KEY])

_EXAMPLE = {"model": "smollm2-135m-instruct", "prompt": "Name three rivers."}


@router.post(
    "/v1/completions",
    responses=ANSWERED,
    openapi_extra=body_of(PARAMETERS, _EXAMPLE, model={"type": "string"}, prompt={"type": ["string", "array"]}),
)
async def complete(request: Request, caller: Annotated[Caller, needs(JOBS_WRITE)], services: Wired) -> Response:
    """Return an answer to each prompt when all their jobs have ended. See docs/reference/openai.md."""
    return await answer(request, caller, services, read)
