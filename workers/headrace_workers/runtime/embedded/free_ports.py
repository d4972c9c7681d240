"""Free ports on loopback, and whether someone answers there."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

LOOPBACK = "127.0.0.1"

_LOWEST = 10_000
_EPHEMERAL = 32_768  # where Linux begins to give ports to clients, unless it says otherwise
_BLOCK = 10  # ports of one process before it looks further away


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, all different, and not given again by this process.

    They are below the ports that the system gives to clients: otherwise a restarted server could find its port taken by
    somebody's connection, or by a client that has connected to itself meanwhile. Each process searches its own range,
    so that two that start at the same time do not find the same ports.
    """
    found: list[int] = []
    while len(found) < count:
        port = next(_candidates())
        if _is_free(port):
            found.append(port)
    return found


@contextmanager
def held(wanted: int) -> Iterator[int]:
    """Hold this port if it is free, else, and for 0, another. Until the end no other caller on this machine gets it.

    Some seconds pass before somebody listens there, in which it looks free. The same number among UDP's ports, which
    nobody needs, says that it is not; the system takes that back however this process ends.
    """
    with socket.socket(type=socket.SOCK_DGRAM) as claim:
        yield wanted if wanted and _is_free(wanted, again=True) and _claims(claim, wanted) else free_ports(1)[0]


@cache
def _candidates() -> Iterator[int]:
    """Return every port of the range, again and again, from a place that the process's id says."""
    highest = _first_ephemeral()
    blocks = (highest - _LOWEST) // _BLOCK
    if blocks < 100:  # a system that gives nearly all ports to clients: then they are as good as any
        lowest, blocks = 49_152, 1_600
    else:
        lowest = _LOWEST
    # 997 is prime: the steps come by every block.
    places = (lowest + (os.getpid() + 997 * step) % blocks * _BLOCK for step in count())
    return (place + offset for place in places for offset in range(_BLOCK))


def _first_ephemeral() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return _EPHEMERAL


def _is_free(port: int, *, again: bool = False) -> bool:
    """Return True if a port is free; with `again`, also if connections of a server that has just ended are not quite
    over.
    """
    with socket.socket() as tried:
        try:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, again)
            tried.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _claims(claim: socket.socket, port: int) -> bool:
    try:
        claim.bind((LOOPBACK, port))
    except OSError:
        return False
    return True


def answers(host: str, port: int, *, say: bytes = b"", expect: bytes = b"", timeout: float = 1.0) -> bool:
    """Return True if something listens there and, when asked, says what is expected."""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            if say:
                connection.sendall(say)
            return not expect or connection.recv(64).startswith(expect)
    except OSError:
        return False
