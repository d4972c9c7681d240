"""Routes that look who asks, whether the tenant may ask now, and whether what the head says is known, before a body is
read. FastAPI reads that first, and writes what a form brings to the disk.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from headrace_workers.core.scopes import Scope
from headrace_workers.http.caller import CALLER, Needs, bearer, caller_of
from headrace_workers.http.idempotency import is_deaf, refuse_key, within


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


def scope_of(route: APIRoute) -> Scope | None:
    """Return the scope that the key of a caller of this route must have; None if it needs no key."""
    return next((each.call.scope for each in within(route.dependant) if isinstance(each.call, Needs)), None)
