"""An HTTP server around the application, which drains before it ends."""

import resource
import socket
from collections.abc import Callable
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from headrace_workers.http.protocol import Protocol
from headrace_workers.http.services import Services
from headrace_workers.wiring.gateway_app import build_app

DRAIN_SECONDS: Final = 20
GRACE_SECONDS: Final = 12.0  # of these, for requests that wait for a job; then they get its present state
_KEEP_ALIVE: Final = 75  # seconds that a connection may be idle: longer than the limit of proxies before it, mostly 60
_BACKLOG: Final = 2_048
_FILES: Final = 65_536


class Server(uvicorn.Server):
    """Uvicorn server. At SIGTERM it stops listening, and finishes requests under way for `DRAIN_SECONDS` at most;
    requests that wait for a job have `grace` seconds.
    """

    def __init__(
        self,
        services: Services,
        listening: socket.socket,
        ready: Callable[[], object],
        *,
        grace: float = GRACE_SECONDS,
    ) -> None:
        super().__init__(config_of(build_app(services)))
        self._services = services
        self._listening = listening
        self._ready = ready
        self._grace = grace

    def serve_until_told(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        self.run([self._listening])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin, and say so."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End, once all have gone on."""
        self._services.waiter.drain(self._grace)
        await super().shutdown(sockets)


def config_of(app: ASGIApp) -> uvicorn.Config:
    """Return how an application is served."""
    return uvicorn.Config(
        app,
        http=Protocol,  # with h11, which bounds what comes before a body; the faster one does not
        ws="none",
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_keep_alive=_KEEP_ALIVE,
        backlog=_BACKLOG,
        access_log=False,  # http/middleware.py writes ours
        log_config=None,
        server_header=False,
        proxy_headers=False,
    )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket at this address; port 0 is any that is free. OSError where that cannot be.

    From then on this process may have more files open than a shell allows it at first, mostly 1,024, as far as the
    system lets it: each client that waits has one.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol by name: asyncio takes TCP_NODELAY for TCP alone. Without, the body of each answer but the first
    # waits behind its head until the client's kernel has confirmed that, 40 ms later.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    return listening
