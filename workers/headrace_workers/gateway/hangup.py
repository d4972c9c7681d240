"""Clients that hang up while they wait."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from headrace_workers.gateway.errors import Refusal, Why

T = TypeVar("T")


class ClientGone(Refusal):
    """Nobody waits for the answer any more."""

    def __init__(self) -> None:
        super().__init__(Why.GONE, "the client has hung up")


async def while_here(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` comes to, for as long as the client is there; else `work` is cancelled, and ClientGone raised.

    The body must have been read before.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        gone.cancel()
        task.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
