"""Jobs in the API's description: requests, and admitted jobs."""

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import EVENTS, EventType, job_type
from headrace_schemas.examples import EXAMPLES
from headrace_schemas.jsonschema import build_json_schema
from headrace_workers.features.jobs.api.job_request import USUAL_KIND
from headrace_workers.http.admission import MOST_JOBS
from headrace_workers.http.shapes import PROBLEM, REFERENCES, Responses


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
    kinds = {each.name.split(".")[2]: each for each in EVENTS if each.name.startswith("headrace.job.")}
    return {kind: each for kind, each in kinds.items() if job_type(kind) is each}


def body_of_jobs() -> dict[str, Any]:
    """Return the description of the body of `POST /v1/jobs`."""
    names = [f"Asked{each.cls.__name__}" for each in _job_types().values()]
    one: dict[str, Any] = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in names]}
    examples: dict[str, Any] = {
        kind: {"value": {"kind": kind, **_example(each)}} for kind, each in _job_types().items()
    }
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
