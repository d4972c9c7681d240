"""Moderations, as OpenAI's clients ask for them, and held jobs."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from headrace_schemas.errors import InvalidRecord
from headrace_schemas.limits import NO_NUL
from headrace_workers.core.scopes import JOBS_WRITE, REVIEWS_TEXTS
from headrace_workers.features.generation.api.answers import answer
from headrace_workers.features.generation.openai.moderations import PARAMETERS, read
from headrace_workers.features.moderation.views import HeldJob, HeldText
from headrace_workers.features.quality.feature import REVIEWS_READ, REVIEWS_WRITE
from headrace_workers.http.bodies import JSONRoute
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import ANSWERS, Refusal, Why
from headrace_workers.http.idempotency import TAKES_KEY
from headrace_workers.http.openai import ANSWERED, body_of
from headrace_workers.http.paging import After, Limit, Page
from headrace_workers.http.routes import fast_route
from headrace_workers.http.services import Services, Wired

router = APIRouter(tags=["openai"], route_class=fast_route(JOBS_WRITE), dependencies=[TAKES_KEY])
held = APIRouter(tags=["reviews"], route_class=JSONRoute)

_EXAMPLE = {"input": "Write to ann@headrace.io."}
_Writes = Annotated[Caller, needs(REVIEWS_WRITE)]


@router.post(
    "/v1/moderations",
    responses=ANSWERED,
    openapi_extra=body_of(PARAMETERS, _EXAMPLE, input={"type": ["string", "array"]}),
)
async def moderate(request: Request, caller: Annotated[Caller, needs(JOBS_WRITE)], services: Wired) -> Response:
    """Return the moderation of each text when all their jobs have ended. See docs/reference/openai.md."""
    return await answer(request, caller, services, read)


class HeldList(Page[HeldJob]):
    """A page of held jobs, the longest held first."""


class Withholding(BaseModel):
    """Why a held job is withheld."""

    model_config = ConfigDict(extra="forbid", strict=True)
    reason: Annotated[
        str, Field(max_length=2_000, pattern=NO_NUL, description="The reason, which the job's sender reads.")
    ]


class HeldJobDecided(BaseModel):
    """A held job about which a person has decided."""

    object: Literal["held_job.decided"] = "held_job.decided"
    job_id: str
    decision: Literal["released", "withheld"]


@held.get("/v1/held", responses=ANSWERS)
async def list_held(
    caller: Annotated[Caller, needs(REVIEWS_READ)], services: Wired, after: After = None, limit: Limit = 20
) -> HeldList:
    """Return the held jobs of your tenant without their texts, the longest held first."""
    last = None
    if after is not None:
        row = await services.known(services.ledger.held_of, after)
        if row is None or row.tenant != caller.tenant:
            raise InvalidRecord(f"after: {after} is not held any more: begin at the first page", param="after")
        last = row.since, row.job_id
    rows = await services.ask(services.ledger.held, limit + 1, caller.tenant, last)
    return HeldList.of(rows, limit, HeldJob.of)


@held.get("/v1/held/{held_job_id}", responses=ANSWERS)
async def show_held(held_job_id: str, caller: Annotated[Caller, needs(REVIEWS_TEXTS)], services: Wired) -> HeldText:
    """Return a held job with its question and the text that is held. Moderation has not passed that text."""
    row = await services.known(services.ledger.held_of, held_job_id)
    if row is None or row.tenant != caller.tenant:
        raise Refusal(Why.NOT_FOUND, "this tenant has no held job of this id")
    return HeldText.of(row)


@held.post("/v1/held/{held_job_id}/release", responses=ANSWERS)
async def release(held_job_id: str, caller: _Writes, services: Wired) -> HeldJobDecided:
    """Release a held job: its held step runs again, and knows that a person released it. 409 if it is not held."""
    await services.standing(held_job_id, caller.tenant)
    done = await services.ask(services.ledger.release_held, [held_job_id])
    return _decided(services, held_job_id, "released", done=bool(done))


@held.post("/v1/held/{held_job_id}/withhold", responses=ANSWERS)
async def withhold(held_job_id: str, asked: Withholding, caller: _Writes, services: Wired) -> HeldJobDecided:
    """End a held job as dead, with your reason. 409 if it is not held."""
    if not asked.reason.strip():
        raise InvalidRecord("reason: is empty: give a reason, which the job's sender reads", param="reason")
    await services.standing(held_job_id, caller.tenant)
    done = await services.ask(services.ledger.withhold, [held_job_id], asked.reason)
    return _decided(services, held_job_id, "withheld", done=bool(done))


def _decided(
    services: Services, job_id: str, decision: Literal["released", "withheld"], *, done: bool
) -> HeldJobDecided:
    if not done:
        raise Refusal(Why.CONFLICT, "the job is not held: somebody has decided already, or it has ended")
    services.ring()
    return HeldJobDecided(job_id=job_id, decision=decision)
