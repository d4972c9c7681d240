"""Targets that the deployment allows for webhooks."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from headrace_schemas.errors import ConfigurationError

DEFAULT_PORTS: Final = frozenset({443, 8443})

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Reach:
    """`networks` may be reached although the internet does not know them; `ports` are those of https.

    With `http_loopback` http may go to this machine's own addresses, at any port: for development.
    """

    networks: tuple[Network, ...] = ()
    ports: frozenset[int] = DEFAULT_PORTS
    http_loopback: bool = False


def networks_of(words: Iterable[str], name: str) -> tuple[Network, ...]:
    """Networks as people write them (10.0.0.0/8); ConfigurationError names the variable and the word."""
    found: list[Network] = []
    for word in words:
        try:
            found.append(ipaddress.ip_network(word, strict=True))
        except ValueError as error:
            raise ConfigurationError(
                f"{name}: {word!r} is no network ({error}); write such as 10.0.0.0/8 or fd00::/8, separated by commas"
            ) from None
    return tuple(found)


def ports_of(words: Iterable[str], name: str) -> frozenset[int]:
    """Ports as people write them; ConfigurationError names the variable and the word."""
    found = set()
    for word in words:
        if not (word.isascii() and word.isdecimal() and 0 < int(word) < 65_536):
            raise ConfigurationError(f"{name}: {word!r} is no port; write such as 443,8443")
        found.add(int(word))
    return frozenset(found)
