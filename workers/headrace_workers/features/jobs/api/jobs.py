"""Jobs: sent, looked at, waited for, and cancelled."""

import json
import re
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response

from headrace_schemas.envelope import is_traceparent
from headrace_workers.cli.job_views import JobObject, job_json
from headrace_workers.core.ledger.job_status import Standing
from headrace_workers.core.pipeline.task import Job
from headrace_workers.core.scopes import JOBS_READ, JOBS_WRITE
from headrace_workers.features.jobs.api.job_events import is_over
from headrace_workers.features.jobs.api.job_request import jobs_of
from headrace_workers.features.jobs.api.job_schemas import ACCEPTED, body_of_jobs
from headrace_workers.http.bodies import parsed
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.fast_routes import fast_route
from headrace_workers.http.hangup import while_here
from headrace_workers.http.idempotency import Key
from headrace_workers.http.services import LONGEST_WAIT, Services, Wired, no_job
from headrace_workers.http.shapes import ANSWERS

router = APIRouter(tags=["jobs"])
sending = APIRouter(tags=["jobs"], route_class=fast_route(JOBS_WRITE))
showing = APIRouter(tags=["jobs"], route_class=fast_route(JOBS_READ))

_JSON: Final = "application/json"
_JOB_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

Writes = Annotated[Caller, needs(JOBS_WRITE)]
Reads = Annotated[Caller, needs(JOBS_READ)]
Trace = Annotated[str | None, Header(description="W3C Trace Context. All events of the job carry it.")]
Wait = Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="The maximum seconds to wait for the end.")]


@sending.post("/v1/jobs", status_code=202, responses=ACCEPTED, openapi_extra=body_of_jobs())
async def send(
    request: Request,
    caller: Writes,
    services: Wired,
    idempotency_key: Key = None,
    traceparent: Trace = None,
) -> Response:
    """Send a job, or a list of jobs: all are admitted, or none. After 202 they are safe, even if processes die.

    A job has a `kind` (by default `generation`) and the fields of that kind. With an idempotency key it is safe to
    send it again; without a key, another request makes a second job.
    """
    document = parsed(await request.body())
    jobs = jobs_of(document, caller.tenant, idempotency_key)
    return await let_in(services, caller, jobs, traceparent, many=isinstance(document, list))


@showing.get("/v1/jobs/{job_id}", response_model=JobObject, responses=ANSWERS)
async def show(job_id: str, request: Request, caller: Reads, services: Wired, wait: Wait = 0.0) -> Response:
    """Return a job. With `wait`, return it when it has ended or the time is over."""
    standing = await standing_of(services, caller, job_id)
    if wait and not is_over(standing):
        ended = await while_here(request, services.waiter.stands([job_id], wait))
        standing = ended.get(job_id) or await standing_of(services, caller, job_id)
    return Response(job_json(job_id, standing), media_type=_JSON)


@router.delete("/v1/jobs/{job_id}", response_model=JobObject, responses=ANSWERS)
async def cancel(job_id: str, caller: Writes, services: Wired) -> Response:
    """Cancel a job and return it. A job that has ended stays as it is."""
    standing = await standing_of(services, caller, job_id)
    if not is_over(standing):
        await services.cancel([job_id], caller.tenant, "")
        standing = await standing_of(services, caller, job_id)
    return Response(job_json(job_id, standing), media_type=_JSON)


async def standing_of(services: Services, caller: Caller, job_id: str) -> Standing:
    """Return the state of a job of the caller's. Raise 404 if there is none."""
    if not _JOB_ID.fullmatch(job_id):
        raise no_job()
    return await services.standing(job_id, caller.tenant)


async def let_in(
    services: Services, caller: Caller, jobs: list[Job], traceparent: str | None, *, many: bool
) -> Response:
    """Let jobs in, and say so: 202. The caller's first token was taken before."""
    await services.rates.take(caller.tenant, len(jobs) - 1)
    trace = traceparent if traceparent and is_traceparent(traceparent) else None
    ids = await services.admission.submit(caller, jobs, traceparent=trace)
    accepted = [{"object": "job", "id": job_id, "state": "accepted"} for job_id in ids]
    body: dict[str, Any] = {"object": "list", "data": accepted} if many else accepted[0]
    headers = {} if many else {"location": f"/v1/jobs/{ids[0]}"}
    return Response(json.dumps(body), 202, headers, _JSON)
