"""The API's description: what FastAPI knows of the routes, their scopes, and the schemas that features add."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from headrace_workers.http.errors import REFERENCES, Problem
from headrace_workers.http.routes import scope_of
from headrace_workers.wiring.features import FEATURES


def describe_api(app: FastAPI, routers: Sequence[APIRouter]) -> None:
    """Make the application, which serves these routers, describe itself in full when it is first asked to."""

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _made(app, routers)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]


def _made(app: FastAPI, routers: Sequence[APIRouter]) -> dict[str, Any]:
    made = get_openapi(
        title="headrace",
        version="1",
        description="Asynchronous LLM jobs over HTTP. See docs/how-to/ask-over-http.md and docs/reference/openai.md.",
        routes=app.routes,
    )
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    _add(schemas, Problem.__name__, Problem.model_json_schema(ref_template=REFERENCES + "{model}"))
    # Features later in the list win where several define a part: the first feature, jobs, says least.
    for feature in reversed(FEATURES):
        for name, schema in feature.schemas().items():
            _add(schemas, name, schema)
    for route in (route for router in routers for route in router.routes if isinstance(route, APIRoute)):
        if route.include_in_schema and (scope := scope_of(route)) is not None:
            for method in route.methods or ():
                operation = made["paths"][route.path_format][method.lower()]
                operation["security"] = [{name: [scope] for name in scheme} for scheme in operation["security"]]
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
