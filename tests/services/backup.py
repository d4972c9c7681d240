"""A ledger's database dumped and restored, as docs/how-to/back-up-and-restore.md says."""

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import make_url
from tests.services.postgres import binaries


def dump(url: str, file: Path) -> None:
    """Write the ledger at this URL to a file, while it is in use."""
    if path := _sqlite_path(url):
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(file)) as target:
            source.backup(target)
        return
    _run("pg_dump", url, "--format=custom", f"--file={file}")


def restore(url: str, file: Path) -> None:
    """Make the ledger at this URL what the file says. Connections of its processes may stay open."""
    if path := _sqlite_path(url):
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        return
    _run("pg_restore", url, "--clean", "--if-exists", "--single-transaction", f"{file}")


def _sqlite_path(url: str) -> str | None:
    parsed = make_url(url)
    return parsed.database if parsed.get_backend_name() == "sqlite" else None


def _run(program: str, url: str, *options: str) -> None:
    dsn = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    command = [str(binaries() / program), f"--dbname={dsn}", *options]
    subprocess.run(command, check=True, timeout=240, env={**os.environ, "PGCONNECT_TIMEOUT": "30"})
