"""Routes that are asked for often: what they are handed is found here. FastAPI would solve their dependencies anew for
each request, which takes as long as all else that the process does for it; it still describes them.
"""

from collections.abc import Callable, Coroutine
from inspect import signature
from typing import Any, Final

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from headrace_workers.gateway.caller import bearer, caller_of
from headrace_workers.gateway.scopes import Scope

_HEADERS: Final = {"idempotency_key": "idempotency-key", "traceparent": "traceparent"}


def direct(scope: Scope) -> type[APIRoute]:
    """The class of routes that need this scope. They take `request`, `caller`, `services`, and those of the headers
    above that they name.
    """

    class Direct(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """What serves a request."""
            endpoint = self.endpoint
            named = {name: header for name, header in _HEADERS.items() if name in signature(endpoint).parameters}

            async def handle(request: Request) -> Response:
                caller = await caller_of(request, bearer(request), scope)
                headers = {name: request.headers.get(header) for name, header in named.items()}
                response: Response = await endpoint(request, caller, request.app.state.services, **headers)
                return response

            return handle

    return Direct
