"""The gateway's application: its routes, what is around them, and how it describes itself."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from headrace_schemas.errors import HeadraceError
from headrace_schemas.reasons import code_of, words_of
from headrace_workers.core.sql.database_errors import Unwritable
from headrace_workers.http import gateway_routes
from headrace_workers.http.errors import (
    REFERENCES,
    Problem,
    Refusal,
    Why,
    refusal_of,
    refused_response,
    response_of,
    unsupported,
)
from headrace_workers.http.middleware import OutermostLayer, RequestLog
from headrace_workers.http.openai import Refused
from headrace_workers.http.routes import ONLY_DECLARED, FastRoute, ReadsItsURL, Shortcut, scope_of
from headrace_workers.http.services import Services
from headrace_workers.runtime.settings import GatewaySettings
from headrace_workers.wiring.features import FEATURES

ROUTERS: Final[tuple[APIRouter, ...]] = (
    *(router for feature in FEATURES for router in feature.routers()),
    gateway_routes.router,
)

# Messages where no route fits, for clients of other servers' routes.
_NO_ROUTE: Final = {
    "Not Found": (
        "there is nothing under this path: the base URL of OpenAI's clients ends in /v1, and "
        "GET /openapi.json tells what there is"
    ),
    "Method Not Allowed": "this path has no such method: GET /openapi.json tells what it has",
}
_NO_FILE: Final = "Value error, Expected UploadFile"  # FastAPI's words for a field of a form
_CAUSES: Final = 4  # of an error are looked at: an exception that several wait for may be among its own causes
_BY_STATUS: Final = {404: Why.NOT_FOUND, 405: Why.METHOD, 413: Why.TOO_LARGE, 415: Why.MEDIA_TYPE}


def build_app(services: Services) -> FastAPI:
    """Return the gateway as an ASGI application."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with services.running():
            yield

    entry = partial(
        OutermostLayer, max_body=services.settings.of(GatewaySettings).max_body, on_end=services.metrics.visited
    )
    # Its pages of documentation would load programs from elsewhere.
    app = _Gateway(entry, title="headrace", lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.services = services
    for router in ROUTERS:
        app.include_router(router, dependencies=[] if isinstance(router, ReadsItsURL) else [ONLY_DECLARED])
    app.add_exception_handler(HeadraceError, _tell)
    app.add_exception_handler(RequestValidationError, _tell)
    app.add_exception_handler(HTTPException, _tell)
    app.add_middleware(entry)
    describe_api(app, ROUTERS)
    return app


class _Gateway(FastAPI):
    """FastAPI, but for direct routes: these are led past it. `entry` is what is around every request."""

    def __init__(self, entry: Callable[[ASGIApp], ASGIApp], **options: Any) -> None:
        super().__init__(**options)
        self._entry = entry

    def build_middleware_stack(self) -> ASGIApp:
        """Return all that a request passes."""
        routes = [route for router in ROUTERS for route in router.routes if isinstance(route, FastRoute)]
        return Shortcut(super().build_middleware_stack(), routes, tell=_tell, around=self._entry)


async def _tell(request: Request, error: Exception) -> Response:
    visit: RequestLog = request.scope["headrace"]
    if isinstance(error, Refused):
        visit.refused(error.code or Why.INVALID.code)
        return refused_response(error)
    refusal = _refusal(error, request.url.path)
    if (unwritable := _unwritable(error)) is not None:
        request.app.state.services.writes.refused(unwritable)
    visit.refused(refusal.why.code)
    return response_of(refusal, request.url.path, visit.request_id)


def _unwritable(error: BaseException | None) -> Unwritable | None:
    """Return the ledger's message if an error comes from a write that the ledger refused."""
    for _ in range(_CAUSES):
        if error is None or isinstance(error, Unwritable):
            return error
        error = error.__cause__
    return None


def _refusal(error: Exception, path: str) -> Refusal:
    match error:
        case HeadraceError():
            return refusal_of(error)
        case RequestValidationError():
            found = error.errors()[:5]
            words = "; ".join(map(_message_of, found))
            return Refusal(Why.INVALID, words, param=_param(found[0]), code=code_of(found[0]["type"]))
        case HTTPException(__cause__=HeadraceError() as cause):  # of a body, as FastAPI tells it
            return refusal_of(cause)
        case HTTPException():
            why = _BY_STATUS.get(error.status_code, Why.INVALID if error.status_code < 500 else Why.INTERNAL)
            words = _NO_ROUTE.get(str(error.detail), str(error.detail))
            if why is Why.NOT_FOUND and (text := unsupported(path)) is not None:
                return Refusal(why, text, code="unsupported_resource", headers=error.headers)
            return Refusal(why, words, headers=error.headers)
    raise error


def _param(error: Mapping[str, Any]) -> str | None:
    """Return the parameter that an error is about, without the part of the request that holds it."""
    return ".".join(str(part) for part in error["loc"][1:]) or None


def _message_of(error: Mapping[str, Any]) -> str:
    """Return where and what, never the value that was sent."""
    if error["loc"] == ("body",) and error["type"] == "missing":
        return "the body is empty"
    words = "must be a file, not text" if error["msg"].startswith(_NO_FILE) else words_of(error)
    return f"{'.'.join(str(part) for part in error['loc'])}: {words}"


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
