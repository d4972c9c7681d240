"""The API's description: what FastAPI knows of the routes, and the schemas that features add."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from headrace_workers.http.shapes import REFERENCES, Problem
from headrace_workers.wiring.features import FEATURES


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
        description="Asynchronous LLM jobs over HTTP. See docs/how-to/ask-over-http.md and docs/reference/openai.md.",
        routes=app.routes,
    )
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    _add(schemas, Problem.__name__, Problem.model_json_schema(ref_template=REFERENCES + "{model}"))
    # The first definition of a part that several have is kept: those of the jobs, the first feature, say least.
    for feature in reversed(FEATURES):
        for name, schema in feature.schemas().items():
            _add(schemas, name, schema)
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
