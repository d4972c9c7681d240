"""Moderations, as OpenAI's clients ask for them."""

from typing import Annotated

from fastapi import APIRouter, Request, Response

from headrace_workers.core.scopes import JOBS_WRITE
from headrace_workers.features.generation.api.answers import answer
from headrace_workers.features.generation.openai.moderations import PARAMETERS, read
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.idempotency import TAKES_KEY
from headrace_workers.http.openai import ANSWERED, body_of
from headrace_workers.http.routes import fast_route
from headrace_workers.http.services import Wired

router = APIRouter(tags=["openai"], route_class=fast_route(JOBS_WRITE), dependencies=[TAKES_KEY])

_EXAMPLE = {"input": "Write to ann@headrace.io."}


@router.post(
    "/v1/moderations",
    responses=ANSWERED,
    openapi_extra=body_of(PARAMETERS, _EXAMPLE, input={"type": ["string", "array"]}),
)
async def moderate(request: Request, caller: Annotated[Caller, needs(JOBS_WRITE)], services: Wired) -> Response:
    """Return the moderation of each text when all their jobs have ended. See docs/reference/openai.md."""
    return await answer(request, caller, services, read)
