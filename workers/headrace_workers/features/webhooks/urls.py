"""Reading the URL of a receiver, strictly: what could be read in two ways is refused. Pure; asks no name server."""

import re
from dataclasses import dataclass
from typing import Final

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.features.webhooks.addresses import refusal
from headrace_workers.features.webhooks.allowed_targets import Reach

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


def read(url: str, reach: Reach) -> Target:
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
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise UrlRefused("the URL's host cannot be read: write a name, an IPv4 address, or an IPv6 one in brackets")
    port = _PORTS[scheme] if found["port"] is None else int(found["port"])
    if not 0 < port < 65_536:
        raise UrlRefused(f"there is no port {port}")
    host = found["v6"] or found["name"].lower()
    if found["v6"] is None:
        _check_name(host)
    return host, port


def _check_name(host: str) -> None:
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        if not _QUAD.fullmatch(host) or max(map(int, labels)) > 255:
            raise UrlRefused("the host spells an address in an unusual way: write four decimal numbers")
    elif len(host) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise UrlRefused("the host is no name: letters, digits, hyphens and dots, and no dot at the end")
