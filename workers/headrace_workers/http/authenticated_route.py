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
        serve, scope, deaf = super().get_route_handler(), self._scope(), is_deaf(self)

        async def handle(request: Request) -> Response:
            request.scope[CALLER] = await caller_of(request, bearer(request), scope)
            if deaf:
                refuse_key(request, self)
            return await serve(request)

        return handle

    def _scope(self) -> Scope:
        return next(each.call.scope for each in within(self.dependant) if isinstance(each.call, Needs))
