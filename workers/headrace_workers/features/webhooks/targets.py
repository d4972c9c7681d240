"""Places that a webhook may be sent to: what the deployment allows, which addresses, which URLs. Asks no
name server.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from headrace_schemas.errors import Category, ConfigurationError, HeadraceError

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


# Addresses that a webhook may be sent to. Pure.
#
# The internet's, and those that the deployment names; nothing that leads to this machine, its network, or its cloud's
# metadata, however it is spelt: https://www.iana.org/assignments/iana-ipv4-special-registry and its like for IPv6.

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Python's own `is_global` changes with its version, and says yes to multicast: this is what we mean.
_SPECIAL_V4: Final = tuple(
    ipaddress.IPv4Network(item)
    for item in (
        "0.0.0.0/8",  # this network; Linux takes it for this machine
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT, and some clouds' metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, from inside
        "169.254.0.0/16",  # link-local, and most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")  # all else is local, reserved, or a spelling of IPv4
_SPECIAL_V6: Final = tuple(
    ipaddress.IPv6Network(item)
    for item in (
        "2001::/23",  # protocols, Teredo's tunnels among them
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "2620:4f:8000::/48",
        "3fff::/20",
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})  # before the IPv4 address at the end


def refusal(text: str, scheme: str, reach: Reach) -> str | None:
    """Why nothing is sent to this address by this scheme; None when it may be."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return f"{text} is no address"
    if getattr(address, "scope_id", None):
        return f"{text} names a network interface"
    meant = _embedded_ipv4(address)
    if scheme == "http":
        if reach.http_loopback and meant.is_loopback:
            return None
        return f"http may go to this machine alone, and {text} is elsewhere"
    if _is_in(meant, reach.networks) or _is_in(address, reach.networks) or _is_global(meant):
        return None
    return f"{text} is not a public address"


def _embedded_ipv4(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_global(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not _is_in(address, _SPECIAL_V4)
    tunnel = (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
    return address in _GLOBAL_V6 and address.is_global and not tunnel and not _is_in(address, _SPECIAL_V6)


def _is_in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


# Reading the URL of a receiver, strictly: what could be read in two ways is refused. Pure; asks no name server.

_PARTS: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_AUTHORITY: Final = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?"
)
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")  # a last label like this makes a host an address, to some readers
_QUAD: Final = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
_NEVER: Final = frozenset('"<>\\^`{|} ')  # in no URL, and some readers change them
_PORTS: Final = {"https": 443, "http": 80}
_LONGEST: Final = 2_048  # characters
_LONGEST_NAME: Final = 253


class UrlRefused(HeadraceError):
    """A URL that gets no webhook: it is malformed, or its target is not allowed."""

    category = Category.INVALID
    param = "url"


@dataclass(frozen=True, slots=True)
class Target:
    """A receiver's place. `host` is a name in lower case, or an address without brackets."""

    scheme: str
    host: str
    port: int
    path: str  # with the query

    @property
    def authority(self) -> str:
        """Host and port as the header `Host` has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.authority}"


def read_url(url: str, reach: Reach) -> Target:
    """The place that a URL names; UrlRefused says why it is not one that webhooks go to."""
    if len(url) > _LONGEST:
        raise UrlRefused(f"the URL has more than {_LONGEST} characters")
    if not url.isascii():
        raise UrlRefused("the URL holds characters beyond ASCII: write its host as xn--… and percent-encode its path")
    if any(not "!" <= character <= "~" or character in _NEVER for character in url):
        raise UrlRefused("the URL holds white space, a control character, or one that must be percent-encoded")
    parts = _PARTS.fullmatch(url)
    if parts is None:
        raise UrlRefused("this is no URL: write https://HOST/PATH")
    scheme, authority, rest = parts["scheme"].lower(), parts["authority"], parts["rest"]
    if scheme == "http" and not reach.http_loopback:
        raise UrlRefused(
            "the scheme is http; webhooks go by https alone. To try them on one machine set "
            "HEADRACE_WEBHOOK_HTTP=loopback for bridges, gateways, workers that deliver, and commands"
        )
    if scheme not in _PORTS:
        raise UrlRefused(f"the scheme is {scheme}; webhooks go by https alone")
    if "@" in authority:
        raise UrlRefused("the URL holds a name or password: a signature says who sends, so leave them out")
    if "#" in rest:
        raise UrlRefused("the URL has a fragment, which is never sent: leave it out")
    host, port = _place(authority, scheme)
    if scheme == "https" and port not in reach.ports:
        allowed = ", ".join(map(str, sorted(reach.ports)))
        raise UrlRefused(f"port {port} is not allowed; HEADRACE_WEBHOOK_PORTS allows {allowed}")
    if (":" in host or _QUAD.fullmatch(host)) and (why := refusal(host, scheme, reach)):
        raise UrlRefused(f"webhooks may not go there: {why}")
    return Target(scheme, host, port, rest if rest.startswith("/") else f"/{rest}")


def _place(authority: str, scheme: str) -> tuple[str, int]:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise UrlRefused("the URL's host cannot be read: write a name, an IPv4 address, or an IPv6 one in brackets")
    port = _PORTS[scheme] if match["port"] is None else int(match["port"])
    if not 0 < port < 65_536:
        raise UrlRefused(f"there is no port {port}")
    host = match["v6"] or match["name"].lower()
    if match["v6"] is None:
        _check_name(host)
    return host, port


def _check_name(host: str) -> None:
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        if not _QUAD.fullmatch(host) or max(map(int, labels)) > 255:
            raise UrlRefused("the host spells an address in an unusual way: write four decimal numbers")
    elif len(host) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise UrlRefused("the host is no name: letters, digits, hyphens and dots, and no dot at the end")
