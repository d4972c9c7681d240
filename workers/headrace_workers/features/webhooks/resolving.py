"""Asking for the addresses of a name, once for each connection. What is answered is checked, and connected to."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

Resolve = Callable[[str], Awaitable[Sequence[str]]]  # raises OSError where a name has no address

_SECONDS: Final = 5.0
_MOST: Final = 64  # questions at a time: a name server that says nothing must not hold up the names of others


class SystemResolver:
    """Asks as this machine does, each question in a thread of its own, bounded in time. Belongs to one event loop."""

    def __init__(self, ask: Callable[[str], Sequence[str]] | None = None) -> None:
        self._ask = ask or _addresses
        self._pending: dict[str, asyncio.Future[Sequence[str]]] = {}
        self._room = asyncio.Semaphore(_MOST)

    async def __call__(self, name: str) -> Sequence[str]:
        """The addresses of a name. Whoever asks for it meanwhile gets the same answer."""
        asked = self._pending.get(name)
        if asked is None:
            asked = self._pending[name] = asyncio.ensure_future(self._once(name))
            asked.add_done_callback(lambda _: self._pending.pop(name, None))
        return await asyncio.shield(asked)

    async def _once(self, name: str) -> Sequence[str]:
        async with self._room:
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[Sequence[str]] = loop.create_future()

            def ask() -> None:
                found: Sequence[str] = ()
                error: OSError | None = None
                try:
                    found = self._ask(name)
                except OSError as failure:
                    error = failure
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(_tell, answer, found, error)

            threading.Thread(target=ask, name="resolve", daemon=True).start()
            try:
                async with asyncio.timeout(_SECONDS):
                    return await answer
            except TimeoutError:
                raise OSError(f"no name server answered for {name} in {_SECONDS:g} s") from None


def _tell(answer: "asyncio.Future[Sequence[str]]", found: Sequence[str], error: OSError | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(found)
    else:
        answer.set_exception(error)


def _addresses(name: str) -> Sequence[str]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is too long for its own codec
        raise OSError(f"{name} is no name: {error}") from None
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
