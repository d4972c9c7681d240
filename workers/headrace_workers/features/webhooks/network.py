"""Connections to the very address that was checked. The name stays what TLS and the header `Host` are about."""

import ipaddress
from collections.abc import Iterable
from typing import Any

import httpcore

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.features.webhooks.addresses import refusal
from headrace_workers.features.webhooks.allowed_targets import Reach
from headrace_workers.features.webhooks.resolving import Resolve


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

    async def connect_unix_socket(self, path: str, timeout: float | None = None, socket_options: Any = None) -> Any:
        """Never."""
        raise AddressRefused("nothing is sent to a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await self._under.sleep(seconds)

    async def _addresses(self, host: str) -> list[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            pass
        try:
            return list(await self._resolve(host))
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error.strerror or error}") from None
