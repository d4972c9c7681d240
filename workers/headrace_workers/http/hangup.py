"""Clients that hang up while they wait."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from headrace_workers.http.errors import Refusal, Why

T = TypeVar("T")


class ClientGone(Refusal):
    """A client that no longer waits for the answer."""

    def __init__(self) -> None:
        super().__init__(Why.GONE, "the client has hung up")


async def while_here(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns while the client is connected; else cancel `work` and raise ClientGone.

    The body must have been read before. The work goes on in the calling task, and the task beside it only watches: a
    thousand waiters are woken at once, and each further task on the way would be one more turn for each.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - this is one
    gone = False

    def hung_up(watch: "asyncio.Task[None]") -> None:
        nonlocal gone
        if not watch.cancelled():
            gone = True
            task.cancel()

    watch = asyncio.create_task(_gone(request))
    watch.add_done_callback(hung_up)
    before = task.cancelling()
    try:
        done = await work
    except asyncio.CancelledError:
        if gone and task.uncancel() <= before:  # by us, and by nobody else
            raise ClientGone from None
        raise
    finally:
        watch.remove_done_callback(hung_up)
        watch.cancel()
    if gone:  # the work came to its end all the same
        task.uncancel()
        raise ClientGone
    return done


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
