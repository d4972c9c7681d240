"""Evaluations: jobs that ask the judge about an output that was made elsewhere."""

from fastapi import APIRouter, Request, Response

from headrace_workers.core.scopes import JOBS_WRITE
from headrace_workers.features.jobs.api.jobs import ACCEPTED, Trace, Writes, admit_jobs, body_of_evaluations, jobs_of
from headrace_workers.http.bodies import parsed
from headrace_workers.http.idempotency import Key
from headrace_workers.http.routes import fast_route
from headrace_workers.http.services import Wired

router = APIRouter(tags=["evaluations"], route_class=fast_route(JOBS_WRITE))


@router.post("/v1/evaluations", status_code=202, responses=ACCEPTED, openapi_extra=body_of_evaluations())
async def evaluate(
    request: Request, caller: Writes, services: Wired, idempotency_key: Key = None, traceparent: Trace = None
) -> Response:
    """Ask the judge about an output, or about a list of outputs. `GET /v1/jobs/{job_id}` returns the scores."""
    document = parsed(await request.body())
    jobs = jobs_of(document, caller.tenant, idempotency_key, kind="evaluation")
    return await admit_jobs(services, caller, jobs, traceparent, many=isinstance(document, list))
