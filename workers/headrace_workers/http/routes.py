"""Routes that look who asks, whether the tenant may ask now, and whether what the head and the URL say is known, before
a body is read. FastAPI reads that first, and writes what a form brings to the disk.

Routes of high traffic are found, and their arguments are prepared, here: FastAPI would look through all routes for each
request and solve dependencies anew, which takes as long as all else that the process does for it. It still describes
them.
"""

from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from functools import cache
from inspect import Parameter, signature
from typing import Any, Final, NamedTuple, get_args

from fastapi import APIRouter, Depends, params
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from headrace_workers.core.scopes import Scope as KeyScope
from headrace_workers.http.caller import CALLER, Needs, bearer, caller_of
from headrace_workers.http.errors import Refusal, Why, is_native
from headrace_workers.http.idempotency import is_deaf, refuse_key, within
from headrace_workers.http.openai import Parameters, Refused

Tell = Callable[[Request, Exception], Awaitable[Response]]  # an error as a response; raises one that it does not know

_WIRED: Final = frozenset({"request", "caller", "services"})


class Guarded(APIRoute):
    """A route that FastAPI serves to authenticated callers only."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that serves a request."""
        serve, deaf = super().get_route_handler(), is_deaf(self)
        if (scope := scope_of(self)) is None:
            raise TypeError(f"{self.path} has no scope: declare its caller with `needs`")

        async def handle(request: Request) -> Response:
            request.scope[CALLER] = await caller_of(request, bearer(request), scope)
            if deaf:
                refuse_key(request, self)
            return await serve(request)

        return handle


def scope_of(route: APIRoute) -> KeyScope | None:
    """Return the scope that the key of a caller of this route must have; None if it needs no key."""
    return next((needed.call.scope for needed in within(route.dependant) if isinstance(needed.call, Needs)), None)


def only(request: Request, names: Collection[str]) -> None:
    """Raise 400 if the URL has another parameter than these, or one twice: it would be ignored."""
    if not request.scope["query_string"]:
        return
    given = request.query_params
    try:
        Parameters(frozenset(names)).given(given)
        if twice := [name for name in given if len(given.getlist(name)) > 1]:
            raise Refused(f"{twice[0]} is given more than once", code="invalid_value", param=twice[0])
    except Refused as error:
        if is_native(request.url.path):
            raise Refusal(Why.INVALID, str(error)) from None
        raise


async def _only_declared(request: Request) -> None:
    only(request, _declared(request.scope["route"].endpoint))


@cache
def _declared(endpoint: Callable[..., Any]) -> frozenset[str]:
    return frozenset(
        annotation.alias or name
        for name, parameter in signature(endpoint).parameters.items()
        for annotation in get_args(parameter.annotation)[1:]
        if isinstance(annotation, params.Query)
    )


ONLY_DECLARED = Depends(_only_declared)  # of routes whose signature has all that their URL may say


class ReadsItsURL(APIRouter):
    """A router whose routes look themselves at what their URL says; `ONLY_DECLARED` is not asked for them."""


class _Query(NamedTuple):
    """A parameter of the URL."""

    name: str
    alias: str
    check: TypeAdapter[Any]


class FastRoute(APIRoute):
    """A route of one scope. Its endpoint takes `request`, `caller` and `services`, what its path names, and the headers
    and parameters of the URL that it declares as FastAPI has them; headers as they are.
    """

    scope: KeyScope

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the function that serves a request."""
        self._headers: list[tuple[str, str]] = []
        self._query: list[_Query] = []
        for name, parameter in signature(self.endpoint).parameters.items():
            if name not in _WIRED:
                self._declare(name, parameter)
        self._names = frozenset(parameter.alias for parameter in self._query)
        self._deaf = is_deaf(self)
        return self.serve

    def _declare(self, name: str, parameter: Parameter) -> None:
        for annotation in get_args(parameter.annotation)[1:]:
            if isinstance(annotation, params.Header):
                self._headers.append((name, (annotation.alias or name.replace("_", "-")).lower()))
            elif isinstance(annotation, params.Query):
                self._query.append(_Query(name, annotation.alias or name, TypeAdapter(parameter.annotation)))

    async def serve(self, request: Request) -> Response:
        """Serve a request. RequestValidationError, and what `caller_of` and the endpoint raise."""
        caller = await caller_of(request, bearer(request), self.scope)
        if self._deaf:
            refuse_key(request, self)
        given: dict[str, Any] = dict(request.path_params)
        for name, header in self._headers:
            given[name] = request.headers.get(header)
        only(request, self._names)
        if self._query:
            given |= self._arguments(request)
        response: Response = await self.endpoint(
            request=request, caller=caller, services=request.app.state.services, **given
        )
        return response

    def _arguments(self, request: Request) -> dict[str, Any]:
        found = {}
        for name, alias, check in self._query:
            if (text := request.query_params.get(alias)) is None:
                continue
            try:
                found[name] = check.validate_python(text)
            except ValidationError as error:
                raise RequestValidationError(
                    [{**fault, "loc": ("query", alias, *fault["loc"])} for fault in error.errors()]
                ) from None
        return found


def fast_route(scope: KeyScope) -> type[APIRoute]:
    """Return the class of direct routes that need this scope."""
    return type("FastRoute", (FastRoute,), {"scope": scope})


class Shortcut:
    """The middleware that leads a request to its direct route at once, and others on. `around` wraps both."""

    def __init__(
        self, on: ASGIApp, routes: Sequence[FastRoute], *, tell: Tell, around: Callable[[ASGIApp], ASGIApp]
    ) -> None:
        self._on = on
        self._tell = tell
        self._direct = around(self._serve)
        self._fixed = {(method, route.path): route for route in routes for method in route.methods or ()}
        self._named = [route for route in routes if route.param_convertors]  # something in their path has a name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        route = self._find(scope) if scope["type"] == "http" else None
        if route is None:
            await self._on(scope, receive, send)
            return
        scope["route"] = route
        await self._direct(scope, receive, send)

    def _find(self, scope: Scope) -> FastRoute | None:
        method, path = scope["method"], scope["path"]
        scope["path_params"] = {}
        if "{" not in path and (fixed := self._fixed.get((method, path))) is not None:
            return fixed
        for route in self._named:
            if method in (route.methods or ()) and (match := route.path_regex.match(path)):
                scope["path_params"] = match.groupdict()
                return route
        return None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await scope["route"].serve(request)
        except Exception as error:
            response = await self._tell(request, error)
        await response(scope, receive, send)
