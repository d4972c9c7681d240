"""Free ports on loopback, and whether someone answers there."""

import socket

LOOPBACK = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Ports that are free now, all different. Another process may take one before it is used."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def answers(host: str, port: int, *, say: bytes = b"", expect: bytes = b"", timeout: float = 1.0) -> bool:
    """Whether something listens there and, when asked, says what is expected."""
    try:
        with socket.create_connection((host, port), timeout) as connection:
            if say:
                connection.sendall(say)
            return not expect or connection.recv(64).startswith(expect)
    except OSError:
        return False
