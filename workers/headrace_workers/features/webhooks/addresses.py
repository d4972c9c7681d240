"""Addresses that a webhook may be sent to. Pure.

The internet's, and those that the deployment names; nothing that leads to this machine, its network, or its cloud's
metadata, however it is spelt: https://www.iana.org/assignments/iana-ipv4-special-registry and its like for IPv6.
"""

import ipaddress
from typing import Final

from headrace_workers.features.webhooks.allowed_targets import Network, Reach

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Python's own `is_global` changes with its version, and says yes to multicast: this is what we mean.
_SPECIAL_V4: Final = tuple(
    ipaddress.IPv4Network(each)
    for each in (
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
    ipaddress.IPv6Network(each)
    for each in (
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
