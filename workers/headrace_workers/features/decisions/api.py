"""Decisions, as OpenAI's clients ask for them."""

from typing import Annotated

from fastapi import APIRouter, Request, Response

from headrace_workers.core.scopes import JOBS_WRITE
from headrace_workers.features.generation.api.answers import answer
from headrace_workers.features.generation.openai.decisions import PARAMETERS, read
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.idempotency import TAKES_KEY
from headrace_workers.http.openai import ANSWERED, body_of
from headrace_workers.http.routes import fast_route
from headrace_workers.http.services import Wired

router = APIRouter(tags=["openai"], route_class=fast_route(JOBS_WRITE), dependencies=[TAKES_KEY])

_EXAMPLE = {
    "model": "smollm2-135m-instruct",
    "input": "The flour has not arrived, and the bakery opens at five!",
    "questions": [{"type": "predicate", "name": "urgent", "instructions": "Is it urgent?"}],
}


@router.post(
    "/v1/decisions",
    responses=ANSWERED,
    openapi_extra=body_of(
        PARAMETERS,
        _EXAMPLE,
        model={"type": "string"},
        input={"type": ["string", "array"]},
        questions={"type": "array", "minItems": 1, "maxItems": 400},
    ),
)
async def decide(request: Request, caller: Annotated[Caller, needs(JOBS_WRITE)], services: Wired) -> Response:
    """Return the answers to the questions when their job has ended. See docs/reference/openai.md."""
    return await answer(request, caller, services, read)
