"""`Idempotency-Key`: which routes know it, and that the others refuse it. Senders rely on it: without it, a second try
would make a second object.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Final

from fastapi import Depends, Header, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from headrace_workers.http.errors import Refusal, Why

_HEADER: Final = "Idempotency-Key"

Key = Annotated[
    str | None,
    Header(alias=_HEADER, description="Your key for this job. Requests of a tenant under one key make one job."),
]


async def _described(key: Key = None) -> None:
    """Describe the header for OpenAPI. The route reads it itself."""


TAKES_KEY: Final[Any] = Depends(_described)  # of a route that reads the header without declaring it


def key_of(request: Request) -> str | None:
    """Return the request's idempotency key."""
    return request.headers.get(_HEADER)


def is_deaf(route: APIRoute) -> bool:
    """Return True if a route changes something and does not support idempotency keys.

    GET and DELETE are safe to send again as they are (RFC 9110, 9.2.2), and so keep what a key promises.
    """
    declared = (field.alias for dependant in within(route.dependant) for field in dependant.header_params)
    return "POST" in (route.methods or ()) and _HEADER not in declared


def refuse_key(request: Request, route: APIRoute) -> None:
    """Raise 400 if a request to a route without idempotency has a key."""
    if key_of(request) is not None:
        raise Refusal(
            Why.INVALID,
            f"{_HEADER}: POST {route.path} does not support it: leave the header out. Each request counts: check "
            "what exists before you repeat a request that got no answer",
        )


def within(dependant: Dependant) -> Iterator[Dependant]:
    """Yield what a route depends on, however deeply."""
    yield dependant
    for dependency in dependant.dependencies:
        yield from within(dependency)
