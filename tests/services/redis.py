"""A Redis for tests. Its memory is lost when it stops."""

from pathlib import Path

from tests.services.server import Server

from headrace_schemas import HeadraceError
from headrace_workers.runtime.embedded.child_processes import ChildSpec
from headrace_workers.runtime.embedded.free_ports import free_ports
from headrace_workers.runtime.embedded.stack import redis, redis_binary


class RedisServer(Server):
    """A redis-server. `url` and `port` are for clients."""

    def __init__(self, binary: str, folder: Path) -> None:
        server = redis(binary, folder, free_ports(1)[0])
        self.url, self.port = server.url, server.port
        super().__init__(ChildSpec(name="redis", argv=server.argv, ready=server.ready), folder)


def find_redis(folder: Path) -> RedisServer | None:
    """A Redis that runs in `folder`; None without a redis-server."""
    try:
        return RedisServer(redis_binary(), folder)
    except HeadraceError:
        return None
