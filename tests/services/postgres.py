"""A PostgreSQL for tests: a fresh cluster on a free port, run by an ordinary user."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.services.server import Server

from headrace_workers.runtime.embedded.child_processes import ChildFailed, ChildSpec
from headrace_workers.runtime.embedded.free_ports import LOOPBACK, free_ports

_USER = "postgres"


class PostgresServer(Server):
    """A cluster in `folder`, which `_USER` owns. `url` is SQLAlchemy's, for psycopg 3.

    Tests need no `durable` cluster, which survives a crash of the machine; a bench must pay for it as production does.
    """

    def __init__(self, binaries: Path, folder: Path, *, durable: bool = False) -> None:
        self._data = folder / "data"
        self._binaries = binaries
        self.port = free_ports(1)[0]
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": str(folder),
            "fsync": "on" if durable else "off",
            "max_connections": "200",
        }
        if not durable:
            settings |= {"autovacuum": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        argv = [*_as_user(), str(binaries / "postgres"), "-D", str(self._data), *options]
        super().__init__(ChildSpec(name="postgres", argv=argv, prepare=self._init, ready=self._ready), folder)

    @property
    def url(self) -> str:
        """The cluster's first database."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """A database by name."""
        return f"postgresql+psycopg://{_USER}@{LOOPBACK}:{self.port}/{database}"

    def create_database(self, name: str, like: str = "template1") -> str:
        """A new database, empty or like another; its URL."""
        import psycopg

        dsn = f"postgresql://{_USER}@{LOOPBACK}:{self.port}/postgres"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{like}"')
        return self.url_of(name)

    def start(self) -> "PostgresServer":
        """Start it. After a kill the old backends need a moment to notice, and hold the data until then."""
        until = time.monotonic() + 120
        while True:
            try:
                super().start()
                return self
            except ChildFailed:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def stop(self) -> None:
        """At once: SIGTERM alone would wait for everyone who is still connected."""
        if self.running:
            os.kill(self.pid, signal.SIGINT)
        super().stop()

    def _init(self) -> None:
        if self._data.exists():
            return
        command = [str(self._binaries / "initdb"), "-D", str(self._data), "-U", _USER, "--auth=trust", "--no-sync"]
        subprocess.run(
            [*_as_user(), *command, "--encoding=UTF8", "--locale=C.UTF-8"], check=True, capture_output=True, timeout=240
        )

    def _ready(self) -> bool:
        command = [str(self._binaries / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self.port)]
        return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode == 0


def find_postgres(folder: Path, *, durable: bool = False) -> PostgresServer | None:
    """A cluster in `folder`; None without PostgreSQL's server programs, or as root without a user to run it."""
    path = _find_binaries()
    if path is None or (os.geteuid() == 0 and (not _user_exists() or shutil.which("setpriv") is None)):
        return None
    if os.geteuid() == 0:
        shutil.chown(folder, _USER)
    return PostgresServer(path, folder, durable=durable)


def binaries() -> Path:
    """The folder of PostgreSQL's programs, where a server was found."""
    path = _find_binaries()
    assert path is not None
    return path


def _find_binaries() -> Path | None:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parent.parent.name))
    paths = debian[-1:] or [Path(path) for path in (shutil.which("initdb"),) if path]
    return paths[0].parent if paths else None


def _user_exists() -> bool:
    return any(entry.pw_name == _USER for entry in pwd.getpwall())


def _as_user() -> list[str]:
    # PostgreSQL refuses to run as root. Changing user forgets the signal of a dying parent: ask for it again.
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--init-groups", "--pdeathsig=KILL", "--"]
