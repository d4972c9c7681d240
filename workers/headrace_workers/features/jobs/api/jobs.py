"""Jobs over HTTP: sent, looked at, waited for and cancelled, and how the API describes them."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, Field

from headrace_schemas.codec import decode_value, encode_value
from headrace_schemas.envelope import is_traceparent
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.event_types import EVENTS, EventType, job_type
from headrace_schemas.examples import EXAMPLES
from headrace_schemas.jsonschema import build_json_schema
from headrace_workers.cli.job_views import JobObject, job_json, state_of
from headrace_workers.core.ledger.job_status import Standing
from headrace_workers.core.pipeline.task import Job
from headrace_workers.core.scopes import JOBS_READ, JOBS_WRITE
from headrace_workers.http.admission import MOST_JOBS
from headrace_workers.http.bodies import parsed, unparsed
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import ANSWERS, PROBLEM, REFERENCES, Refusal, Responses, Why
from headrace_workers.http.hangup import while_here
from headrace_workers.http.idempotency import Key
from headrace_workers.http.routes import fast_route
from headrace_workers.http.services import LONGEST_WAIT, Services, Wired

USUAL_KIND: Final = "generation"
_LONGEST_KEY: Final = 256
_OVER: Final = frozenset({"done", "dead", "cancelled", "refused"})

router = APIRouter(tags=["jobs"])
sending = APIRouter(tags=["jobs"], route_class=fast_route(JOBS_WRITE))
showing = APIRouter(tags=["jobs"], route_class=fast_route(JOBS_READ))
_JSON: Final = "application/json"
Writes = Annotated[Caller, needs(JOBS_WRITE)]
Reads = Annotated[Caller, needs(JOBS_READ)]
Trace = Annotated[str | None, Header(description="W3C Trace Context. All events of the job carry it.")]
Wait = Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="The maximum seconds to wait for the end.")]


def jobs_of(document: Any, tenant: str, key: str | None, *, kind: str | None = None) -> list[Job]:
    """Return the jobs of a document: an object is one job, a list of objects are many.

    Each says by `kind` what it asks for, a generation where it does not; with `kind` all are of that. `key` is the
    idempotency key of the request: of the only job as it is, of the n-th of many as `key/n` (from 0). Refused, or
    InvalidRecord, tells what is wrong, and with which of many.
    """
    if not isinstance(document, list):
        return [_job(document, tenant, key, kind)]
    if not document:
        raise Refusal(Why.INVALID, "the list of jobs is empty")
    jobs = []
    for number, item in enumerate(document):
        try:
            jobs.append(_job(item, tenant, None if key is None else f"{key}/{number}", kind))
        except InvalidRecord as error:
            raise InvalidRecord(f"job {number}: {error}") from error
    return jobs


def _job(document: Any, tenant: str, key: str | None, kind: str | None) -> Job:
    if not isinstance(document, Mapping):
        raise InvalidRecord("a job is a JSON object")
    fields = dict(document)
    named = fields.pop("kind", None) if kind is None else None
    found = job_type(named or kind or USUAL_KIND) if isinstance(named, str | None) else None
    if found is None:
        raise InvalidRecord(f"kind: {named!r} is not a kind of job: leave it out for a generation"[:_LONGEST_KEY])
    if fields.setdefault("tenant", tenant) != tenant:
        raise Refusal(Why.FORBIDDEN, f"this key belongs to the tenant {tenant}: leave `tenant` out")
    if key is not None:
        if fields.get("idempotency_key") not in (None, key):
            raise InvalidRecord("idempotency_key: the header Idempotency-Key has another value: send one of them")
        if len(key) > _LONGEST_KEY or not key:
            raise InvalidRecord(f"Idempotency-Key: must be 1 to {_LONGEST_KEY} characters, with the number of the job")
        fields["idempotency_key"] = key
    job = decode_value(found.name, unparsed(fields))
    assert isinstance(job, Job)  # noqa: S101 - of a job's type
    return job


class AcceptedShape(BaseModel):
    """A job that was admitted."""

    object: Literal["job"]
    id: str = Field(description="The id of the job.")
    state: Literal["accepted"] = Field(description="The job is safe.")


class AcceptedList(BaseModel):
    """Jobs that were admitted, in the order in which they were sent."""

    object: Literal["list"]
    data: list[AcceptedShape] = Field(description="One job for each that was sent.")


ACCEPTED: Final[Responses] = {
    202: {"model": AcceptedShape | AcceptedList, "description": "The jobs are safe, even if processes die now."},
    "default": PROBLEM,
}


def schemas() -> Mapping[str, dict[str, Any]]:
    """Return the contract's schemas of jobs by name, and under `Asked` and the name what `POST /v1/jobs` takes."""
    found = {}
    for kind, event_type in _job_types().items():
        schema = build_json_schema(event_type, references=REFERENCES)
        name = event_type.cls.__name__
        found[name] = {key: value for key, value in schema.items() if not key.startswith(("$schema", "$id"))}
        found[f"Asked{name}"] = _request_schema(found[name], kind)
    return found


def _request_schema(schema: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return the schema of a job with its kind, which only the usual one may leave out."""
    required = schema.get("required", [])
    return {
        **schema,
        "properties": {"kind": {"const": kind}, **schema["properties"]},
        "required": required if kind == USUAL_KIND else ["kind", *required],
    }


def _job_types() -> dict[str, EventType]:
    """Return the kinds of jobs, each with its event type."""
    kinds = {event.name.split(".")[2]: event for event in EVENTS if event.name.startswith("headrace.job.")}
    return {kind: row for kind, row in kinds.items() if job_type(kind) is row}


def body_of_jobs() -> dict[str, Any]:
    """Return the description of the body of `POST /v1/jobs`."""
    names = [f"Asked{row.cls.__name__}" for row in _job_types().values()]
    one: dict[str, Any] = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}
    examples: dict[str, Any] = {kind: {"value": {"kind": kind, **_example(row)}} for kind, row in _job_types().items()}
    examples["many"] = {"value": [{"kind": USUAL_KIND, **_example(_job_types()[USUAL_KIND])}]}
    many: dict[str, Any] = {"type": "array", "items": one, "minItems": 1, "maxItems": MOST_JOBS}
    return _body({"anyOf": [one, many]}, examples)


def body_of_evaluations() -> dict[str, Any]:
    """Return the description of the body of `POST /v1/evaluations`."""
    one = {"$ref": "#/components/schemas/EvaluationJob"}
    example = _example(_job_types()["evaluation"])
    many: dict[str, Any] = {"type": "array", "items": one, "minItems": 1, "maxItems": MOST_JOBS}
    return _body({"anyOf": [one, many]}, {"one": {"value": example}, "many": {"value": [example]}})


def _body(schema: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}
    }


def _example(event_type: EventType) -> dict[str, Any]:
    """Return the contract's own example, without the fields that admission fills in."""
    fields: dict[str, Any] = json.loads(encode_value(EXAMPLES[event_type.name]))
    return {name: value for name, value in fields.items() if name not in ("tenant", "deadline", "idempotency_key")}


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
    return await admit_jobs(services, caller, jobs, traceparent, many=isinstance(document, list))


@showing.get("/v1/jobs/{job_id}", response_model=JobObject, responses=ANSWERS)
async def show(job_id: str, request: Request, caller: Reads, services: Wired, wait: Wait = 0.0) -> Response:
    """Return a job. With `wait`, return it when it has ended or the time is over."""
    standing = await services.standing(job_id, caller.tenant)
    if wait and not is_over(standing):
        ended = await while_here(request, services.waiter.stands([job_id], wait))
        standing = ended.get(job_id) or await services.standing(job_id, caller.tenant)
    return Response(job_json(job_id, standing), media_type=_JSON)


@router.delete("/v1/jobs/{job_id}", response_model=JobObject, responses=ANSWERS)
async def cancel(job_id: str, caller: Writes, services: Wired) -> Response:
    """Cancel a job and return it. A job that has ended stays as it is."""
    standing = await services.standing(job_id, caller.tenant)
    if not is_over(standing):
        await services.cancel([job_id], caller.tenant, "")
        standing = await services.standing(job_id, caller.tenant)
    return Response(job_json(job_id, standing), media_type=_JSON)


def is_over(standing: Standing) -> bool:
    """Return True if the job has ended."""
    return state_of(standing) in _OVER


async def admit_jobs(
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
