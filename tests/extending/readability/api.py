"""How easy the answer of a job is to read."""

from typing import Annotated

from fastapi import APIRouter

from headrace_workers.core.scopes import JOBS_READ
from headrace_workers.features.readability.store import ReadabilityStore
from headrace_workers.features.readability.views import Readability
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import ANSWERS, Refusal, Why
from headrace_workers.http.services import Wired

router = APIRouter(tags=["readability"])


@router.get("/v1/jobs/{job_id}/readability", responses=ANSWERS)
async def show(job_id: str, caller: Annotated[Caller, needs(JOBS_READ)], services: Wired) -> Readability:
    """Return how easy the answer of a job is to read."""
    found = await services.known(services.ledger.of(ReadabilityStore).find, job_id, caller.tenant)
    if found is None:
        raise Refusal(Why.NOT_FOUND, "the readability of this job was not measured")
    return found
