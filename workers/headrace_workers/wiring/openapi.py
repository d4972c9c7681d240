"""The API's description: what FastAPI knows of the routes, and the contract's own schemas of jobs."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from headrace_schemas.jsonschema import build_json_schema
from headrace_workers.features.jobs.api.job_request import USUAL_KIND
from headrace_workers.http.shapes import MODELS, job_types

_REFERENCES = "#/components/schemas/"


def describe_api(app: FastAPI) -> None:
    """Let the application describe itself in full; it is made when it is first asked for."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _made(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _made(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(
        title="headrace",
        version="1",
        description="Asynchronous LLM jobs over HTTP. See docs/gateway.md and docs/openai.md.",
        routes=app.routes,
    )
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for model in MODELS:
        _add(schemas, model.__name__, model.model_json_schema(ref_template=_REFERENCES + "{model}"))
    for kind, event_type in job_types().items():
        schema = build_json_schema(event_type, references=_REFERENCES)
        name = event_type.cls.__name__
        _add(schemas, name, {key: value for key, value in schema.items() if not key.startswith(("$schema", "$id"))})
        schemas[f"Asked{name}"] = _asked(schemas[name], kind)
    for path in made["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)  # ours is in another shape, and has another status
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return made


def _add(schemas: dict[str, Any], name: str, schema: dict[str, Any]) -> None:
    for part, definition in schema.pop("$defs", {}).items():
        schemas.setdefault(part, definition)
    schemas[name] = schema


def _asked(schema: dict[str, Any], kind: str) -> dict[str, Any]:
    """A job as `POST /v1/jobs` takes it: with its kind, which only the usual one may leave out."""
    required = schema.get("required", [])
    return {
        **schema,
        "properties": {"kind": {"const": kind}, **schema["properties"]},
        "required": required if kind == USUAL_KIND else ["kind", *required],
    }
