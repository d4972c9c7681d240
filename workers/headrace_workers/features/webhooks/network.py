"""The adapter of httpcore: connections to the very address that was checked. The name stays what TLS and the header
`Host` are about.
"""

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import httpcore

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.features.webhooks.targets import Reach, refusal

Resolve = Callable[[str], Awaitable[Sequence[str]]]  # raises OSError where a name has no address

SECONDS: Final = 5.0
_MOST: Final = 64  # questions at a time: a name server that says nothing must not hold up the names of others


class SystemResolver:
    """Asks as this machine does, each question in a thread of its own, bounded in time. Belongs to one event loop."""

    def __init__(self, ask: Callable[[str], Sequence[str]] | None = None) -> None:
        self._ask = ask or _addresses
        self._pending: dict[str, asyncio.Future[Sequence[str]]] = {}
        self._room = asyncio.Semaphore(_MOST)

    async def __call__(self, name: str) -> Sequence[str]:
        """The addresses of a name. Concurrent callers get the same answer."""
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
                async with asyncio.timeout(SECONDS):
                    return await answer
            except TimeoutError:
                raise OSError(f"no name server answered for {name} in {SECONDS:g} s") from None


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


class AddressRefused(HeadraceError):
    """A name leads where webhooks may not go. It may lead elsewhere later."""

    category = Category.TRANSIENT


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Resolves a name once, checks all that was answered, and connects to one of these addresses, by its number.

    One address that may not be reached refuses the whole answer: a name server that mixes them is not to be trusted.
    AddressRefused, or httpcore's ConnectError.
    """

    def __init__(self, scheme: str, reach: Reach, resolve: Resolve) -> None:
        self._scheme = scheme
        self._reach = reach
        self._resolve = resolve
        self._under = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection to what a name or an address stands for."""
        addresses = await self._addresses(host)
        for address in addresses:
            if why := refusal(address, self._scheme, self._reach):
                raise AddressRefused(f"nothing is sent to {host}: {why}")
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._under.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _addresses(self, host: str) -> list[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        try:
            return list(await self._resolve(host))
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error.strerror or error}") from None
