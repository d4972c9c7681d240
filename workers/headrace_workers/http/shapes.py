"""What OpenAPI says of bodies that routes read and write themselves."""

import json
from typing import Any, Final, Literal

from pydantic import BaseModel

from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import EVENTS, EventType, job_type
from headrace_schemas.examples import EXAMPLES
from headrace_workers.features.jobs.api.job_body import JobShape
from headrace_workers.features.jobs.api.job_request import USUAL_KIND
from headrace_workers.features.knowledge.api.vector_store_batch_shapes import NewFileBatch
from headrace_workers.features.knowledge.api.vector_store_shapes import BODIES
from headrace_workers.http.admission import MOST_JOBS

Responses = dict[int | str, dict[str, Any]]


class Problem(BaseModel):
    """Why a request got no answer: RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    param: str | None = None
    job_id: str | None = None


class AcceptedShape(BaseModel):
    """A job that was let in."""

    object: Literal["job"]
    id: str
    state: Literal["accepted"]


class AcceptedList(BaseModel):
    """Jobs that were let in, in the order in which they were sent."""

    object: Literal["list"]
    data: list[AcceptedShape]


PROBLEM: Final[dict[str, Any]] = {
    "description": "Why there is no answer.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
ANSWERS: Final[Responses] = {"default": PROBLEM}
ACCEPTED: Final[Responses] = {
    202: {"model": AcceptedShape | AcceptedList, "description": "They are safe, whatever dies now."},
    "default": PROBLEM,
}
STREAM: Final[Responses] = {
    200: {"description": "Events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
MODELS: Final[tuple[type[BaseModel], ...]] = (Problem, JobShape, NewFileBatch, *BODIES)


def job_types() -> dict[str, EventType]:
    """The kinds of jobs, each with its event type."""
    kinds = {each.name.split(".")[2]: each for each in EVENTS if each.name.startswith("headrace.job.")}
    return {kind: each for kind, each in kinds.items() if job_type(kind) is each}


def body_of_jobs() -> dict[str, Any]:
    """The body of `POST /v1/jobs`."""
    names = [f"Asked{each.cls.__name__}" for each in job_types().values()]
    one: dict[str, Any] = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}
    examples: dict[str, Any] = {kind: {"value": {"kind": kind, **_example(each)}} for kind, each in job_types().items()}
    examples["many"] = {"value": [{"kind": USUAL_KIND, **_example(job_types()[USUAL_KIND])}]}
    many: dict[str, Any] = {"type": "array", "items": one, "minItems": 1, "maxItems": MOST_JOBS}
    return _body({"anyOf": [one, many]}, examples)


def body_of_evaluations() -> dict[str, Any]:
    """The body of `POST /v1/evaluations`."""
    one = {"$ref": "#/components/schemas/EvaluationJob"}
    example = _example(job_types()["evaluation"])
    many: dict[str, Any] = {"type": "array", "items": one, "minItems": 1, "maxItems": MOST_JOBS}
    return _body({"anyOf": [one, many]}, {"one": {"value": example}, "many": {"value": [example]}})


def _body(schema: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}
    }


def _example(event_type: EventType) -> dict[str, Any]:
    """The contract's own, without what the door fills in."""
    fields: dict[str, Any] = json.loads(encode_value(EXAMPLES[event_type.name]))
    return {name: value for name, value in fields.items() if name not in ("tenant", "deadline", "idempotency_key")}
